"""`.zipfs/status.json`: what a mount is doing, as one document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import zipfs
from zipfs.ingest.status import NOTHING_WAITS, describe_content, describe_ingest, describe_queue, describe_writers
from zipfs.mount.change_log import ChangeLog
from zipfs.store.namespace.unfinished import UnfinishedNames
from zipfs.store.objects.values import InodeId
from zipfs.store.store import Store

FORMAT = 1


class MountStatus:
    """The whole document. What of it the catalog says is made anew only when the catalog has changed, and by a thread:
    a program that waits reads it again and again, and thousands of files may be waiting. Used by the event loop.
    """

    def __init__(self, change_log: ChangeLog, store: Path, mountpoint: Path, names: UnfinishedNames | None) -> None:
        """`names` are those that wait; None for a mount that takes nothing in."""
        self._change_log = change_log
        self._store = store
        self._mountpoint = mountpoint
        self._names = names
        self._version = -1
        self._found: dict[str, Any] = {}

    async def describe(
        self, worker: dict[str, Any], worker_pid: int | None, writers: Sequence[tuple[InodeId, int]]
    ) -> dict[str, Any]:
        """`worker` is what the worker says of itself, `writers` lists (inode, process) of handles that may write."""
        found, writing = await self._change_log.read_store(partial(self._read, writers))
        return {
            "format": FORMAT,
            "version": zipfs.__version__,
            "store": str(self._store),
            "mountpoint": str(self._mountpoint),
            "pid": os.getpid(),
            "worker_pid": worker_pid,
            "worker": worker,
            "writing": writing,
            **found,
        }

    def _read(
        self, writers: Sequence[tuple[InodeId, int]], store: Store
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What the catalog says. On the look thread, one at a time."""
        version = store.catalog.data_version()
        if version != self._version:
            ingest = dict(NOTHING_WAITS) if self._names is None else describe_ingest(store, self._names)
            self._found = {**ingest, **describe_queue(store), **describe_content(store)}
            self._version = version
        return self._found, describe_writers(store, writers)
