"""`.zipfs/status.json`: what a mount is doing, for programs to read."""

from __future__ import annotations

import os
from typing import Any

import zipfs
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
    row = store.catalog.row(
        "SELECT count(*), coalesce(sum(nbytes), 0) FROM inodes WHERE state = 'stored'"
        " AND id IN (SELECT inode_id FROM entries WHERE area = 0)"
    )
    assert row is not None
    packs = store.catalog.packs()
    return {
        "stored_files": row[0],
        "stored_raw_nbytes": row[1],
        "packs": len(packs),
        "packs_nbytes": sum(packs.values()),
    }


def describe_mount(
    store: Store,
    *,
    mountpoint: str,
    worker: dict[str, Any],
    worker_pid: int | None,
    pending: int,
    unfinished: list[str],
) -> dict[str, Any]:
    """The whole document. `pending` counts files that are not sealed yet, `unfinished` names those that will not be."""
    queue = describe_queue(store)
    return {
        "format": FORMAT,
        "version": zipfs.__version__,
        "store": str(store.path),
        "mountpoint": mountpoint,
        "pid": os.getpid(),
        "worker_pid": worker_pid,
        "worker": worker,
        "unsealed_files": pending,
        "unfinished_files": unfinished,
        **queue,
        **describe_content(store),
    }
