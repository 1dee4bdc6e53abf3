"""The queue: sealed files in the spool, as sources for the pipeline."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from zipfs.errors import NoSpace, NotFound, NotWritable, Stopped, StoreBusy, ZipfsError
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.seal import note_interrupted, seal
from zipfs.ingest.seal_plan import SealPlan, plan_everything
from zipfs.ingest.seal_written import plan_written, seal_written
from zipfs.ingest.source import Source, StoredFile
from zipfs.store.catalog.queries import retrying
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.frames.open_blob import OpenBlobs
from zipfs.store.frames.overlay import Older, StoredBytes
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import ABSENT, Event, transition
from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames
from zipfs.store.objects.columns import layout_sum
from zipfs.store.objects.values import Inode, State
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 30.0
_RETRY_AT_MOST_S = 3600.0


def queued(store: Store) -> Iterator[Source]:
    """Sealed files, oldest first; one that failed lately is left out until it is worth another try."""
    failures = store.catalog.failures()
    for inode in store.catalog.inodes_in(State.SEALED):
        _, attempts, at_ns = failures.get(inode.id, ("", 0, 0))
        pause_s = min(_RETRY_AFTER_S * 2 ** (attempts - 1), _RETRY_AT_MOST_S) if attempts else 0.0
        if 0 <= time.time_ns() - at_ns < pause_s * 1e9:  # a time to come is of a clock that was put back
            continue
        try:
            yield _source(store, inode)
        except ZipfsError as error:
            if not store.catalog.is_sealed(inode):
                continue  # opened for writing since, and what shows through it cut off
            log.error("inode %d waits to be compressed and cannot be: %s", inode.id, error)


def drain(store: Store, pipeline: Pipeline) -> int:
    """Compress until the queue is empty, or holds only what failed; returns how many files were tried.

    Raises as Pipeline.run does.
    """
    tried: set[Path] = set()
    while True:
        pipeline.stop.check()
        sources = [source for source in queued(store) if source.path not in tried]
        if not sources:
            break
        tried.update(source.path for source in sources)
        pipeline.run(sources)
    return len(tried)


def seal_everything(
    store: Store, names: UnfinishedNames = STANDARD, failed: Callable[[str, str], None] | None = None
) -> SealPlan:
    """Seal whatever is pending and finished by its name, without waiting; returns what was planned.

    Only while no mount writes to the store. What goes wrong with one directory is told to `failed`, with its name, and
    the others go on. Raises StoreBusy, NoSpace, NotWritable, Stopped; without `failed` everything.
    """
    plan = plan_everything(store, names)
    for group in plan.ready:
        store.stop.check()
        try:
            seal(store, group)
        except (StoreBusy, NoSpace, NotWritable, Stopped):
            raise
        except Exception as error:
            if failed is None:
                raise
            shown = os.fsdecode(os.path.dirname(group[0].path)) or "/"
            log.exception("%s could not be sealed", shown)
            failed(shown, f"{shown}: could not be sealed: {error}")
    for held in plan.held:
        note_interrupted(store, held)
    seal_written(store, plan_written(store.catalog, store.catalog.ids_in(State.OPEN), names).ready)
    return plan


def _source(store: Store, inode: Inode) -> Source:
    path = tree.served_path(store.catalog, inode.id)

    def commit(txn: Transaction, stored: StoredFile) -> None:
        try:
            current = txn.catalog.inode(inode.id)
        except NotFound:
            return  # removed or replaced while it was compressed
        if (current.state, current.spool_id) != (State.SEALED, inode.spool_id):
            return  # opened for writing since; it may be sealed again by now
        put_stored(txn, current, stored)

    def wanted() -> bool:
        return store.catalog.is_sealed(inode)

    def done() -> None:
        store.spool_path(inode).unlink(missing_ok=True)
        faults.point("ingest.spool-freed")

    def failed(error: ZipfsError) -> None:
        with store.transaction() as txn:
            # Another process may have compressed it first, and taken the spool file away.
            if wanted():
                transition(State.SEALED, ABSENT, Event.COMPRESS_FAILS)
                txn.put_failure(inode.id, str(error), tree.now_ns())

    return Source(
        store.spool_path(inode),
        os.fsdecode(path),
        os.path.basename(path),
        inode.nbytes,
        commit,
        done,
        failed,
        final=True,
        older=_older(store, inode),
        wanted=wanted,
    )


def _older(store: Store, inode: Inode) -> Older | None:
    """Open what shows through the holes of a spool file. Raises CatalogDamaged, Damaged."""

    def attempt() -> Older | None:
        with store.catalog.snapshot():
            extents, blobs = store.catalog.extents(inode), store.catalog.blobs_of(inode)
        if not extents:
            return None
        packs = {name: store.packs.open(name) for name in blobs.packs}
        return Older(StoredBytes(store.frames, extents, OpenBlobs(blobs, packs)))

    return retrying(attempt)


def put_stored(txn: Transaction, inode: Inode, stored: StoredFile) -> None:
    """Turn an inode into one whose content is in packs."""
    state = transition(inode.state, ABSENT, Event.COMPRESS).state
    left_to = txn.catalog.heirs(inode.id) if inode.layout_sum else []
    txn.put_inode(
        replace(
            inode,
            state=state,
            nbytes=stored.nbytes,
            sha256=stored.sha256,
            stored_nbytes=stored.stored_nbytes,
            layout_sum=layout_sum(stored.extents),
        )
    )
    txn.put_extents(inode.id, stored.extents)
    # A file that waited for longer than others of the same content counts for it from now on.
    txn.attribute([inode.id, *txn.catalog.heirs(inode.id), *left_to])
    txn.clear_failure(inode.id)
