"""Ask a mount, or the store behind it, what it is doing and what it has counted.

A mount is asked by another process, for a limited time: who reads from a mount that hangs may not even be killed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zipfs.cli.document_form import NUMBER, has_form
from zipfs.errors import PathError

if TYPE_CHECKING:
    from zipfs.metrics.snapshot import Snapshot

_ANSWER_S: Final = 10.0
_WORKER_ANSWER_S: Final = 1.0

_WORKER: Final = {
    "file?": (str, None),
    "waiting?": (str, None),
    "deaths?": int,
}
_WORKER_WITH_FILE: Final = {"work_nbytes": int, "file_nbytes": int}
_WORKER_THAT_DIES: Final = {
    "ended": str,
    "dying_since": NUMBER,
    "last_words": [str],
    "starts_again_at": (None, *NUMBER),
}
_STATUS: Final = {
    "store": str,
    "stored_files": int,
    "stored_raw_nbytes": int,
    "packs_nbytes": int,
    "queued_files": int,
    "queued_nbytes": int,
    "unsealed_files": int,
    "failed_files": int,
    "unfinished_files": [str],
    "unfinished_in_place?": [str],
    "worker": _WORKER,
    "writing": [{"path": str, "program": str, "pid": int}],
    "kept": [{"path": str, "files": int, "nbytes": int}],
    "errors": [{"path": str, "error": str, "attempts": int}],
    "hints?": [str],
}
"""What `zipfs status` and `zipfs wait` rely on. A daemon of another version may say less, or something else."""


def status_of(path: Path, *, within_s: float = _ANSWER_S) -> dict[str, Any]:
    """Return what the mount that `path` lies in, or the store there, says of itself. Raises PathError, NotAStore."""
    from zipfs.mount import asking, points

    top = points.top_of(str(path))
    if top is None:
        return _status_of_store(path)
    status = asking.ask_status(Path(top), within_s=within_s)
    if not _is_sound(status):
        raise PathError(path, "its status is not of the form that is known here; is it mounted by another version?")
    return status


def _is_sound(status: dict[str, Any]) -> bool:
    return has_form(status, _STATUS) and _is_sound_worker(status["worker"])


def _is_sound_worker(worker: object) -> bool:
    """Tell whether a worker's state has all that belongs to what it says."""
    return (
        isinstance(worker, dict)
        and has_form(worker, _WORKER)
        and (not worker.get("file") or has_form(worker, _WORKER_WITH_FILE))
        and (not worker.get("deaths") or has_form(worker, _WORKER_THAT_DIES))
        and (not worker.get("optimizing") or _is_progress(worker["optimizing"]))
    )


def _is_progress(document: Any) -> bool:
    """Tell whether a document says what is done, how much of it, and of how much."""
    return isinstance(document, list) and [type(one) for one in document] == [str, int, int]


def _status_of_store(path: Path) -> dict[str, Any]:
    from zipfs.ingest.status import describe_content, describe_ingest, describe_queue
    from zipfs.store.marker import is_store
    from zipfs.store.namespace.unfinished import STANDARD
    from zipfs.store.store import open_store

    if not is_store(path):
        raise PathError(path, "is neither in a ZipFS mount nor a store")
    with open_store(path, read_only=True) as store:
        served = store.lock("mount").held_elsewhere
        return {
            "store": str(path),
            "mounted": served,
            "worker": _worker_of(path) if served else {},
            "writing": [],
            **describe_ingest(store, STANDARD),
            "busy": served or store.lock("pack").held_elsewhere,
            **describe_queue(store),
            **describe_content(store),
        }


def _worker_of(store: Path) -> dict[str, Any]:
    """Return the state of a store's worker: empty if its mount does not answer at once, or cannot be seen."""
    from zipfs.mount import asking, points

    real = os.path.realpath(store)
    for point in points.mount_points():
        if point.kind == points.SUBTYPE and point.root == "/" and os.path.realpath(point.source) == real:
            with suppress(PathError):
                worker = asking.ask_status(Path(point.path), within_s=_WORKER_ANSWER_S).get("worker")
                if isinstance(worker, dict) and worker and _is_sound_worker(worker):
                    return worker
    return {}


def counters_of(mount: Path) -> Snapshot:
    """Return what the daemon of a mount has counted since it started. Raises PathError."""
    from zipfs.metrics.snapshot import from_json

    try:
        return from_json(json.loads(_ask(mount)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise PathError(mount, f"its counters cannot be read ({error!r}); is it mounted by another version?") from error


def _ask(mount: Path) -> bytes:
    from zipfs.mount import asking, points

    try:
        return asking.ask(Path(points.top_of(str(mount)) or mount), "perf.json", within_s=_ANSWER_S)
    except asking.NotThere:
        raise PathError(mount, "no ZipFS store is mounted there now, and only a mount counts") from None
