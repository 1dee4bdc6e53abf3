"""What waits, what is being written, what failed and what was stored: the parts of a status, for programs to read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from zipfs.ingest.seal_plan import Pending, find_pending
from zipfs.ingest.seal_written import plan_written
from zipfs.store.namespace import tree
from zipfs.store.namespace.unfinished import UnfinishedNames
from zipfs.store.objects.values import InodeId, State
from zipfs.store.store import Store

_WRITERS_AT_MOST = 100
NOTHING_WAITS: Final[Mapping[str, Any]] = {
    "unsealed_files": 0,
    "unfinished_files": [],
    "unfinished_nbytes": 0,
    "unfinished_in_place": [],
    "kept": [],
}


def describe_queue(store: Store) -> dict[str, Any]:
    """Describe what waits in the spool and what failed: from the catalog alone, so it can be asked of any store."""
    catalog = store.catalog
    sealed = catalog.inodes_in(State.SEALED)
    failures = [
        {
            "path": os.fsdecode(tree.served_path(catalog, inode_id)),
            "error": message,
            "attempts": attempts,
            "at": at_ns / 1e9,
        }
        for inode_id, (message, attempts, at_ns) in catalog.failures().items()
    ]
    return {
        "queued_files": len(sealed),
        "queued_nbytes": sum(inode.nbytes for inode in sealed),
        "failed_files": len(failures),
        "errors": failures,
    }


def describe_content(store: Store) -> dict[str, Any]:
    """Describe the bytes that came in and what became of them."""
    found = store.catalog.content_sizes()
    return {
        "stored_files": found.files,
        "stored_raw_nbytes": found.raw_nbytes,
        "packs": found.packs,
        "packs_nbytes": found.packs_nbytes,
    }


def describe_ingest(store: Store, names: UnfinishedNames) -> dict[str, Any]:
    """Describe how many files wait for their seal, in both trees, and what will not be sealed because of its name.

    What stays because a tool keeps its books there, such as `.git`, is named once for each of these directories.
    """
    pending = find_pending(store.catalog, names=names, spool=store.spool_directory)
    files = [item for item in pending if not item.inode.is_directory]
    unfinished = [item for item in files if item.unfinished]
    kept: dict[bytes, list[int]] = {}
    alone = []
    for item in unfinished:
        keeper = names.keeper(item.path)
        if keeper:
            kept.setdefault(keeper, []).append(_spool_nbytes(store, item))
        else:
            alone.append(item)
    written = plan_written(store.catalog, [inode.id for inode in store.catalog.inodes_in(State.OPEN)], names)
    return {
        "unsealed_files": len(files) - len(unfinished) + len(written.ready),
        "unfinished_files": [os.fsdecode(item.path) for item in alone],
        "unfinished_nbytes": sum(_spool_nbytes(store, item) for item in alone),
        "unfinished_in_place": [os.fsdecode(tree.served_path(store.catalog, inode.id)) for inode in written.unfinished],
        "kept": [
            {"path": os.fsdecode(path), "files": len(sizes), "nbytes": sum(sizes)}
            for path, sizes in sorted(kept.items())
        ],
    }


def _spool_nbytes(store: Store, item: Pending) -> int:
    try:
        return os.stat(store.spool_path(item.inode)).st_size
    except FileNotFoundError:
        return item.inode.nbytes


def describe_writers(store: Store, writers: Iterable[tuple[InodeId, int]]) -> list[dict[str, Any]]:
    """Describe which files are open for writing, and in which programs: their models wait for these."""
    found = {}
    for inode_id, pid in writers:
        path = os.fsdecode(tree.served_path(store.catalog, inode_id))
        if path:
            found[path, pid] = {"path": path, "pid": pid, "program": program_of(pid)}
    return [found[key] for key in sorted(found)][:_WRITERS_AT_MOST]


def program_of(pid: int) -> str:
    """Return the name of a process or thread; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="backslashreplace").strip()
    except OSError:
        return ""
