"""The queue: sealed files in the spool, as sources for the pipeline."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zipfs.errors import NotFound, ZipfsError
from zipfs.ingest.names import STANDARD, UnfinishedNames
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.seal import SealPlan, note_interrupted, plan_everything, seal
from zipfs.ingest.source import Source, StoredFile
from zipfs.store import faults, tree
from zipfs.store.rows import Inode, State, layout_sum
from zipfs.store.store import Store
from zipfs.store.transaction import Transaction

_RETRY_AFTER_S = 30.0
_RETRY_AT_MOST_S = 3600.0


def queued(store: Store) -> Iterator[Source]:
    """Sealed files, oldest first; one that failed lately is left out until it is worth another try."""
    failures = store.catalog.failures()
    for inode in store.catalog.inodes_in(State.SEALED):
        _, attempts, at_ns = failures.get(inode.id, ("", 0, 0))
        pause_s = min(_RETRY_AFTER_S * 2 ** (attempts - 1), _RETRY_AT_MOST_S) if attempts else 0.0
        if time.time_ns() - at_ns >= pause_s * 1e9:
            yield _source(store, inode)


def drain(store: Store, pipeline: Pipeline) -> int:
    """Compress until the queue is empty, or holds only what failed; returns how many files were tried.

    Raises as Pipeline.run does.
    """
    tried: set[Path] = set()
    while not pipeline.stop.is_set():
        sources = [source for source in queued(store) if source.path not in tried]
        if not sources:
            break
        tried.update(source.path for source in sources)
        pipeline.run(sources)
    return len(tried)


def seal_everything(store: Store, names: UnfinishedNames = STANDARD) -> SealPlan:
    """Seal whatever is pending and finished by its name, without waiting; returns what was planned.

    Only while no mount writes to the store.
    """
    plan = plan_everything(store, names)
    for group in plan.ready:
        seal(store, group)
    for held in plan.held:
        note_interrupted(store, held)
    return plan


def _source(store: Store, inode: Inode) -> Source:
    path = tree.served_path(store.catalog, inode.id)

    def commit(txn: Transaction, stored: StoredFile) -> None:
        try:
            current = txn.catalog.inode(inode.id)
        except NotFound:
            return  # removed or replaced while it was compressed
        if current.state is not State.SEALED:
            return
        put_stored(txn, current, stored)

    def done() -> None:
        store.spool_path(inode.id).unlink(missing_ok=True)
        faults.point("ingest.spool-freed")

    def failed(error: ZipfsError) -> None:
        with store.transaction() as txn:
            # Another process may have compressed it first, and taken the spool file away.
            if txn.catalog.row("SELECT 1 FROM inodes WHERE id = ? AND state = 'sealed'", (inode.id,)) is not None:
                txn.put_failure(inode.id, str(error), tree.now_ns())

    return Source(
        store.spool_path(inode.id),
        os.fsdecode(path),
        os.path.basename(path),
        inode.nbytes,
        commit,
        done,
        failed,
        final=True,
    )


def put_stored(txn: Transaction, inode: Inode, stored: StoredFile) -> None:
    """Turn an inode into one whose content is in packs."""
    txn.put_inode(
        replace(
            inode,
            state=State.STORED,
            nbytes=stored.nbytes,
            sha256=stored.sha256,
            stored_nbytes=stored.stored_nbytes,
            layout_sum=layout_sum(stored.extents),
        )
    )
    txn.put_extents(inode.id, stored.extents)
    txn.clear_failure(inode.id)
