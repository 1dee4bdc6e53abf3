"""`.zipfs/status.json`: what a mount is doing, for programs to read."""

from __future__ import annotations

import os
from typing import Any

import zipfs
from zipfs.ingest.names import is_unfinished
from zipfs.ingest.seal import find_pending
from zipfs.store import tree
from zipfs.store.rows import State
from zipfs.store.store import Store

FORMAT = 1


def describe_queue(store: Store) -> dict[str, Any]:
    """What waits in the spool and what failed; from the catalog alone, so that it can be asked of any store."""
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
    return {"queued_files": len(sealed), "queued_nbytes": sum(inode.nbytes for inode in sealed), "errors": failures}


def describe_content(store: Store) -> dict[str, Any]:
    """Bytes that came in and what became of them."""
    total = store.catalog.row("SELECT count(*), coalesce(sum(nbytes), 0) FROM inodes WHERE state = 'stored'")
    # To look for the served name of each file would take four times as long as to count all of them.
    not_served = store.catalog.row(
        "SELECT count(*), coalesce(sum(nbytes), 0) FROM inodes WHERE state = 'stored'"
        " AND id IN (SELECT inode_id FROM entries WHERE area <> 0)"
        " AND NOT EXISTS (SELECT 1 FROM entries WHERE inode_id = id AND area = 0)"
    )
    assert total is not None and not_served is not None
    packs = store.catalog.packs()
    return {
        "stored_files": total[0] - not_served[0],
        "stored_raw_nbytes": total[1] - not_served[1],
        "packs": len(packs),
        "packs_nbytes": sum(packs.values()),
    }


def describe_ingest(store: Store) -> dict[str, Any]:
    """How many files wait for their seal, and which will not be sealed because of their names."""
    files = [item.path for item in find_pending(store.catalog) if not item.inode.is_directory]
    unfinished = [os.fsdecode(path) for path in files if is_unfinished(path)]
    return {"unsealed_files": len(files) - len(unfinished), "unfinished_files": unfinished}


class MountStatus:
    """The whole document. What of it the catalog says is made anew only when the catalog has changed: a program that
    waits reads it again and again. Used by the event loop.
    """

    def __init__(self, store: Store, mountpoint: str, *, ingests: bool) -> None:
        self._store = store
        self._mountpoint = mountpoint
        self._ingests = ingests
        self._version = -1
        self._found: dict[str, Any] = {}

    def describe(self, worker: dict[str, Any], worker_pid: int | None) -> dict[str, Any]:
        """`worker` is what the worker says of itself."""
        version = self._store.catalog.data_version()
        if version != self._version:
            ingest = describe_ingest(self._store) if self._ingests else {"unsealed_files": 0, "unfinished_files": []}
            self._found = {**ingest, **describe_queue(self._store), **describe_content(self._store)}
            self._version = version
        return {
            "format": FORMAT,
            "version": zipfs.__version__,
            "store": str(self._store.path),
            "mountpoint": self._mountpoint,
            "pid": os.getpid(),
            "worker_pid": worker_pid,
            "worker": worker,
            **self._found,
        }
