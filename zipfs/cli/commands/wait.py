"""`zipfs wait`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from zipfs.cli.mount_state import status_of
from zipfs.cli.options import AnyPath, Seconds
from zipfs.cli.render.messages import message, warning
from zipfs.cli.render.progress import byte_progress
from zipfs.cli.render.status import kept_text, worker_failures, writer_text
from zipfs.cli.render.units import counted, ratio, size
from zipfs.errors import PathError
from zipfs.host import printable

_POLL_S: Final = 0.2
_PATIENCE_S: Final = 30.0
"""For who waits anyway: a mount that is busy may take its time for one answer of many."""
_DEATHS_TO_GIVE_UP: Final = 3
"""In a row, without a file that was finished between them."""
_FIRST_MESSAGE_S: Final = 2.0
_MESSAGE_EVERY_S: Final = 60.0


@click.command("wait")
@click.argument("mount", type=AnyPath())
@click.option("--timeout", "timeout_s", type=Seconds(), default=None, help="Give up after so many seconds.")
def wait_command(mount: Path, timeout_s: float | None) -> None:
    """Wait until nothing is left to compress in MOUNT (or in a store that is mounted somewhere).

    Ends with exit code 1, and names them, if files could not be stored, or were left out because their names say that
    they are unfinished (*.incomplete, .tmp*, *.part ...); also if the process that compresses keeps dying. What a tool
    keeps for itself (.git, .locks) stays as it is, and is named.

    \b
    Example:
      zipfs wait /mnt/models
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with byte_progress() as bar:
        task = None if bar is None else bar.add_task("waiting", total=None)
        messages = _Messages(has_bar=bar is not None)
        total = 0
        while True:
            status = status_of(mount, within_s=_PATIENCE_S)
            left = status["queued_files"] + status["unsealed_files"]
            if left <= status["failed_files"]:  # of which `errors` names those that we may know of
                break
            if "mounted" in status and not status["busy"]:
                waiting = counted(left, "file waits", "files wait")
                advice = f"mount the store, or run `zipfs ingest {printable(str(mount))}`"
                raise PathError(mount, f"{waiting} and nothing compresses them: {advice}")
            if status["queued_files"] and status["worker"].get("deaths", 0) >= _DEATHS_TO_GIVE_UP:
                why = worker_failures(status["worker"])
                warning(f"{counted(left, 'file waits', 'files wait')} and the worker keeps dying: {why}")
                sys.exit(1)
            if deadline is not None and time.monotonic() > deadline:
                warning(f"{counted(left, 'file is', 'files are')} still waiting after {timeout_s:g} s")
                for writer in status["writing"]:
                    warning(f"being written: {writer_text(writer)}")
                sys.exit(4)
            messages.still(status, left)
            if bar is not None and task is not None:
                worker = status["worker"]
                done_nbytes = worker.get("work_nbytes", 0) // 2 if worker.get("file") else 0
                total = max(total, status["queued_nbytes"])
                what = os.path.basename(printable(worker.get("file") or "")) or "sealing"
                bar.update(task, description=what, total=total, completed=total - status["queued_nbytes"] + done_nbytes)
            time.sleep(_POLL_S)
    messages.done(status)
    for kept in status["kept"]:
        warning(f"left as it is: {kept_text(kept)}")
    for failure in status["errors"]:
        warning(f"{printable(failure['path'])}: {printable(failure['error'])}")
    for path in status["unfinished_files"]:
        warning(f"{printable(path)}: not served, for its name says that it is not finished")
    for path in status.get("unfinished_in_place", []):
        warning(f"{printable(path)}: served and not compressed, for its name says that it is not finished")
    if status["errors"] or status["unfinished_files"]:
        sys.exit(1)


class _Messages:
    """Tell who sees no progress bar that the wait goes on, and everybody what came of it."""

    def __init__(self, *, has_bar: bool) -> None:
        self._next_s = time.monotonic() + _FIRST_MESSAGE_S
        self._has_bar = has_bar
        self._first: Mapping[str, Any] | None = None

    def still(self, status: Mapping[str, Any], left: int) -> None:
        """Take note of a status with something left."""
        if self._first is None:
            self._first = status
        if not self._has_bar and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _MESSAGE_EVERY_S
            message(f"waiting for {counted(left, 'file')}, {size(status['queued_nbytes'])} of them queued")

    def done(self, status: Mapping[str, Any]) -> None:
        """Say what was compressed meanwhile, and what the store holds now."""
        files, raw, stored = (status[key] for key in ("stored_files", "stored_raw_nbytes", "packs_nbytes"))
        first = self._first or status
        new = files - first["stored_files"]
        compressed = f"compressed {counted(new, 'file')}; " if new > 0 else ""
        message(
            f"{compressed}all in all {counted(files, 'file')}: {size(raw)} in {size(stored)} ({ratio(stored, raw)})"
        )
