"""Owns the transaction: changes to the catalog, written to the manifest log first.

A transaction holds SQLite's write lock, so there is one at a time across all processes. Its order: rows written, record
appended to the log, log synced if asked to, SQLite commit. A kill between log and commit leaves a record that the next
transaction applies before anything else (`redo`); a kill before leaves nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from zipfs.errors import CatalogDamaged, ManifestDamaged, NoSpace, Refused, ZipfsError
from zipfs.store.catalog import log_record
from zipfs.store.catalog.database import BUSY_SLICE_S
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog, Position
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.packs.backend import PackBackend

log = logging.getLogger(__name__)

_CHECKPOINT_WAIT_MS = 500


@contextmanager
def transaction(
    catalog: Catalog, manifests: ManifestLog, packs: PackBackend, *, durable: bool = False, fault: str = ""
) -> Iterator[Transaction]:
    """Begin; commit at the end of the block, or roll back if it raises.

    With `durable` the record is on disk when the block has ended; without, it survives a kill but not a power cut.
    `fault` prefixes the fault points `.logged` and `.committed`. Raises StoreBusy, NoSpace, NotWritable,
    CatalogDamaged; Refused where what is changed contradicts the schema or names what has gone.
    """
    db = catalog._db
    catalog._query("BEGIN IMMEDIATE")
    logged_at: Position | None = None
    try:
        db.execute("PRAGMA defer_foreign_keys = ON")
        position = redo(catalog, manifests, packs)
        txn = Transaction(catalog)
        yield txn
        txn.check_bases()
        if txn.changes:
            data = log_record.encode(txn.changes, position.seq + 1)
            logged_at = position
            manifests.append(position.segment, position.offset, data)
            if durable:
                manifests.sync(position.segment)
            if fault:
                faults.point(f"{fault}.logged")
            txn.set_position(Position(position.segment, position.offset + len(data), position.seq + 1))
        _commit(catalog, txn)
        if txn.changes:
            txn.seq = position.seq + 1
            if fault:
                faults.point(f"{fault}.committed")
    except BaseException as error:
        _roll_back(catalog, manifests, logged_at)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(catalog.path.parent, os.strerror(error.errno)) from error
        raise


def _commit(catalog: Catalog, txn: Transaction) -> None:
    try:
        catalog._write("COMMIT")
    except Refused as error:
        missing = catalog.missing_references()
        if not missing:
            raise
        table, row_id, parent = missing[0]
        what = f"a row of {table} ({row_id}) refers to one of {parent} that is not there"
        if txn.changes:
            raise Refused(catalog.path, what) from error
        raise CatalogDamaged(f"{catalog.path}: {what}") from error


def _roll_back(catalog: Catalog, manifests: ManifestLog, logged_at: Position | None) -> None:
    """Undo a transaction, and take its record out of the log if it was `logged_at` there.

    On a full disk SQLite rolls back by itself, and lets go of the lock with it. Another process may then have applied
    the record as if we had been killed: it stays in that case, and the change has taken place.
    """
    db = catalog._db
    try:
        has_lock = db.in_transaction
        if logged_at is not None:
            if not has_lock:
                catalog._query("BEGIN IMMEDIATE")
            if has_lock or catalog.position() == logged_at:
                manifests.truncate(logged_at.segment, logged_at.offset)
    except (OSError, sqlite3.Error, ZipfsError) as error:
        log.error("a record of a change that failed stays in the manifest log: %s", error)
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def redo(catalog: Catalog, manifests: ManifestLog, packs: PackBackend) -> Position:
    """Bring log and catalog to the same point; called inside a write transaction.

    Records beyond the catalog's position are applied; a record cut short at the end was never acknowledged and is cut
    off. A log that is shorter than the catalog remembers (its unsynced end was lost in a power cut), or is missing, is
    replaced by a snapshot. Raises CatalogDamaged where the catalog's position is not between two records, or its
    segment is missing and another one is there: the catalog is the older one then, and must not be believed.
    """
    position = catalog.position()
    others = [] if manifests.path_of(position.segment).exists() else manifests.segments()
    if others:
        raise CatalogDamaged(
            f"it follows segment {position.segment} of the manifest log, but that on disk is {others[-1]}"
        )
    nbytes = manifests.nbytes(position.segment)
    if nbytes == position.offset:
        return position
    if nbytes < position.offset:
        log.warning("manifest log is %d bytes shorter than the catalog remembers", position.offset - nbytes)
        return _start_over(catalog, manifests, position)
    txn = Transaction(catalog)
    try:
        for entry in manifests.read(position.segment, position.offset, nbytes):
            txn.apply(entry.changes, packs)
            position = Position(position.segment, entry.end, entry.seq)
    except Refused as error:
        raise CatalogDamaged(f"{catalog.path} and the manifest log contradict each other: {error}") from error
    except ManifestDamaged as error:
        log.warning("cut off an unfinished record: %s", error)
        if not _ends_record(manifests, catalog.position()):
            return _start_over(catalog, manifests, position)
        manifests.truncate(position.segment, position.offset)
    txn.check_bases()
    txn.drop_undecodable()
    txn.set_position(position)
    return position


def _ends_record(manifests: ManifestLog, position: Position) -> bool:
    """Return whether the log has a record that ends at a position, False if it cannot be read as far as that.

    Raises CatalogDamaged if a record ends beyond it.
    """
    try:
        for entry in manifests.read(position.segment, 0):
            if entry.end >= position.offset:
                if (entry.end, entry.seq) == (position.offset, position.seq):
                    return True
                raise CatalogDamaged(f"position {position} is not one of the manifest log")
    except ManifestDamaged as error:
        log.warning("%s", error)
    return False


def snapshot_records(catalog: Catalog, seq: int) -> Iterator[bytes]:
    """Yield the whole tree as records of a new segment, a bounded number of rows in each."""
    batch = Changes()
    for inode_id in catalog.inode_ids():
        catalog.stop.check()
        inode = catalog.inode(inode_id)
        batch.inodes[inode.id] = inode
        batch.xattrs.update({(inode.id, name): value for name, value in catalog.all_xattrs(inode.id).items()})
        extents = catalog.extents(inode)
        if extents:
            batch.extents[inode.id] = extents
        for entry in catalog.entries_of(inode.id):
            batch.entries[entry.parent_id, entry.name] = entry
        if len(batch.inodes) >= 512:
            yield log_record.encode(batch, seq, log_record.SNAPSHOT)
            batch = Changes()
    batch.next_inode, batch.next_blob = catalog.next_ids()
    batch.packs = dict.fromkeys(catalog.packs(), True)
    yield log_record.encode(batch, seq, log_record.SNAPSHOT | log_record.SNAPSHOT_END)


@contextmanager
def filling(catalog: Catalog) -> Iterator[Transaction]:
    """Begin and commit a transaction on a catalog that is being made from the log and that nobody else knows yet.

    Nothing is logged, and nothing is undone if the block raises: the catalog is thrown away then.
    """
    catalog._query("BEGIN IMMEDIATE")
    catalog._query("PRAGMA defer_foreign_keys = ON")
    yield Transaction(catalog)
    catalog._query("COMMIT")
    catalog._query("PRAGMA wal_checkpoint(TRUNCATE)")


def _start_over(catalog: Catalog, manifests: ManifestLog, position: Position) -> Position:
    """Continue in a new segment that begins with a snapshot of the catalog."""
    segment = max(position.segment, position.seq, *manifests.segments()) + 1
    nbytes = manifests.create(segment, snapshot_records(catalog, position.seq))
    position = Position(segment, nbytes, position.seq)
    Transaction(catalog).set_position(position)
    return position


def compact(catalog: Catalog, manifests: ManifestLog, packs: PackBackend) -> None:
    """Replace the log by one segment with a snapshot; nothing changes for readers."""
    with transaction(catalog, manifests, packs):
        _start_over(catalog, manifests, catalog.position())
    faults.point("gc.snapshot-committed")
    # The old segment may go only when a power cut cannot take the catalog back to it. Where readers keep that from
    # being made sure, it stays until the next time: waiting for them would hold up every writer.
    catalog._query(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
    busy, _, _ = catalog._query("PRAGMA wal_checkpoint(TRUNCATE)")[0]
    catalog._query(f"PRAGMA busy_timeout = {BUSY_SLICE_S * 1000:.0f}")
    if not busy:
        manifests.drop_except(catalog.position().segment)
