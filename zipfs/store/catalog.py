"""The catalog: one SQLite connection, what can be asked of it, and the errors of SQLite told as ours.

The catalog is a view of the manifest log and the packs, kept in SQLite for its queries: it can be lost and made anew.
Reading goes on while another thread or process writes (WAL). A `Catalog` is used by one thread at a time; open one per
thread. `Transaction` in `transaction.py` is the only way to change it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from zipfs.errors import CatalogDamaged, Damaged, NoSpace, NotAStore, NotFound, PathError, StoreBusy
from zipfs.store.rows import (
    Area,
    BaseRef,
    Blob,
    BlobId,
    Entry,
    Extent,
    Inode,
    InodeId,
    Kind,
    PackName,
    State,
    entry_sum,
    frame_count,
    inode_sum,
    layout_sum,
)

BUSY_TIMEOUT_S = 60.0

T = TypeVar("T")

_NO_SPACE = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE")
"""SQLite tells a full disk as an error of whatever it was about to write."""

INODE_COLUMNS = (
    "id, kind, state, mode, uid, gid, nbytes, mtime_ns, ctime_ns, target, stored_nbytes, sha256, layout_sum, sum"
)
_SELECT_BLOBS = (
    "SELECT blobs.id, blobs.nbytes, fingerprint, dtype, shape, base_id, base_offset, packs.name, pack_offset, frames,"
    " stored_nbytes FROM blobs JOIN packs ON packs.id = pack_id"
)


class Position(NamedTuple):
    """How far into the manifest log a catalog has come."""

    segment: int
    offset: int
    seq: int


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of SQLite as StoreBusy, NoSpace, PathError or CatalogDamaged."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreBusy(path, "another process has been changing it for a minute; try again later") from error
        if name.startswith("SQLITE_READONLY"):
            raise PathError(path.parent, "the store cannot be changed: no right to write to it") from error
        if name in _NO_SPACE:
            raise NoSpace(path.parent, str(error)) from error
        raise CatalogDamaged(f"{path}: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:  # a column that holds what the schema rules out
        raise CatalogDamaged(f"{path}: {error}") from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    db.execute("PRAGMA foreign_keys = ON")
    # Durability comes from the manifest log, which is written and synced first.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -16384")
    db.execute("SELECT 1 FROM position")
    return db


def _nothing_beside_it(error: sqlite3.Error, path: Path, *, read_only: bool) -> bool:
    """Whether the database could not be opened because SQLite cannot make its files beside it, and it is complete
    without them.
    """
    name = error.sqlite_errorname
    if name == "SQLITE_CANTOPEN":
        return True
    wal = path.with_name(path.name + "-wal")
    complete = not wal.exists() or wal.stat().st_size == 0
    return read_only and complete and (name == "SQLITE_IOERR_SHMSIZE" or name.startswith("SQLITE_READONLY"))


def _blob_column(value: object) -> bytes:
    """SQLite keeps the type of a value beside it; after a flipped bit it may be another one."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value


def _check_integers(*values: object) -> None:
    if any(not isinstance(value, int) or value < 0 for value in values):
        raise TypeError(f"{values} where sizes and offsets belong")


class Catalog:
    """`path` is catalog.db. Raises NotAStore where it is missing."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        with translated(path):
            try:
                self.db = _connect(path, "mode=ro" if read_only else "mode=rw")
            except sqlite3.OperationalError as error:
                if not path.exists():
                    raise NotAStore(path.parent, "its catalog is missing; `zipfs rebuild` makes a new one") from error
                if not _nothing_beside_it(error, path, read_only=read_only):
                    raise
                # On a disk that is read-only or full to the last byte nobody changes the database either. In a
                # directory of another user somebody may: what is read then does not match its checksums.
                self.db = _connect(path, "immutable=1")
        self.position()

    def close(self) -> None:
        self.db.close()

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with translated(self.path):
            return self.db.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        with translated(self.path):
            row: tuple[Any, ...] | None = self.db.execute(sql, parameters).fetchone()
            return row

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read in the block is of one moment."""
        with translated(self.path):
            self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.execute("ROLLBACK")

    def position(self) -> Position:
        row = self.row("SELECT segment, offset, seq FROM position")
        if row is None:
            raise CatalogDamaged(f"{self.path}: it does not say how far it has come")
        return Position(*row)

    def next_id(self, counter: str) -> int:
        """Hand out an id of an "inode" or a "blob". A counter that was damaged gives no id that is in use."""
        row = self.row(
            f"UPDATE counters SET next = max(next, (SELECT coalesce(max(id), 0) + 1 FROM {counter}s)) + 1"
            " WHERE name = ? RETURNING next - 1",
            (counter,),
        )
        if row is None:
            raise CatalogDamaged(f"the counter of {counter}s is missing")
        return int(row[0])

    # Tree

    def inode(self, inode_id: InodeId) -> Inode:
        """Raises NotFound, or CatalogDamaged where the row's checksum does not match."""
        row = self.row(f"SELECT {INODE_COLUMNS} FROM inodes WHERE id = ?", (inode_id,))
        if row is None:
            raise NotFound(f"inode {inode_id}")
        return self._inode(row)

    def inodes_in(self, state: State) -> list[Inode]:
        """Files whose content is OPEN or SEALED, oldest first."""
        rows = self.query(f"SELECT {INODE_COLUMNS} FROM inodes WHERE state = ? ORDER BY id", (state.value,))
        return [self._inode(row) for row in rows]

    def _inode(self, row: Sequence[Any]) -> Inode:
        with translated(self.path):
            inode = Inode(InodeId(row[0]), Kind(row[1]), State(row[2]), *row[3:13])
            found = inode_sum(inode)
        if found != row[13]:
            raise CatalogDamaged(f"row of inode {inode.id} does not match its checksum")
        return inode

    def entry(self, parent_id: InodeId, name: bytes) -> Entry | None:
        row = self.row("SELECT parent_id, name, inode_id, area, sum FROM entries WHERE parent_id = ? AND name = ?",
                       (parent_id, name))  # fmt: skip
        return None if row is None else self._entry(row)

    def entries_of(self, inode_id: InodeId) -> list[Entry]:
        """The names of an inode."""
        rows = self.query("SELECT parent_id, name, inode_id, area, sum FROM entries WHERE inode_id = ?", (inode_id,))
        return [self._entry(row) for row in rows]

    def children(self, parent_id: InodeId) -> list[tuple[Entry, Inode]]:
        """What a directory holds, in order of name."""
        columns = ", ".join(f"inodes.{column}" for column in INODE_COLUMNS.split(", "))
        rows = self.query(
            f"SELECT parent_id, name, inode_id, area, entries.sum, {columns} FROM entries"
            " JOIN inodes ON inodes.id = inode_id WHERE parent_id = ? ORDER BY name",
            (parent_id,),
        )
        return [(self._entry(row[:5]), self._inode(row[5:])) for row in rows]

    def is_empty(self, parent_id: InodeId) -> bool:
        return self.row("SELECT 1 FROM entries WHERE parent_id = ? LIMIT 1", (parent_id,)) is None

    def entries_in(self, area: Area) -> list[Entry]:
        """Every entry that is PENDING or an ECHO."""
        rows = self.query("SELECT parent_id, name, inode_id, area, sum FROM entries WHERE area = ?", (int(area),))
        return [self._entry(row) for row in rows]

    def _entry(self, row: Sequence[Any]) -> Entry:
        with translated(self.path):
            entry = Entry(InodeId(row[0]), _blob_column(row[1]), InodeId(row[2]), Area(row[3]))
            found = entry_sum(entry)
        if found != row[4]:
            raise CatalogDamaged(f"entry {entry.name!r} of directory {entry.parent_id} does not match its checksum")
        return entry

    def link_count(self, inode_id: InodeId, *, under_ingest: bool) -> int:
        rows = self.query(
            "SELECT count(*) FROM entries WHERE inode_id = ? AND (area <> 0) = ?", (inode_id, under_ingest)
        )
        return int(rows[0][0])

    def xattrs(self, inode_id: InodeId) -> dict[bytes, bytes]:
        rows = self.query("SELECT name, value FROM xattrs WHERE inode_id = ? ORDER BY name", (inode_id,))
        with translated(self.path):
            return {_blob_column(name): _blob_column(value) for name, value in rows}

    def extents(self, inode: Inode) -> tuple[Extent, ...]:
        """The extents of a STORED file, none of any other. Raises CatalogDamaged unless they are those that were
        written.
        """
        if inode.state is not State.STORED:
            return ()
        rows = self.query(
            "SELECT offset, nbytes, blob_id, blob_offset FROM extents WHERE inode_id = ? ORDER BY offset", (inode.id,)
        )
        with translated(self.path):
            extents = tuple(Extent(*row) for row in rows)
            found = layout_sum(extents)
        if found != inode.layout_sum:
            raise CatalogDamaged(f"extents of inode {inode.id} do not match their checksum")
        return extents

    # Blobs

    def blob(self, blob_id: BlobId) -> Blob:
        row = self.row(f"{_SELECT_BLOBS} WHERE blobs.id = ?", (blob_id,))
        if row is None:
            raise CatalogDamaged(f"blob {blob_id} is missing")
        return self._blob(row)

    def blobs_of(self, inode: Inode) -> dict[BlobId, Blob]:
        """The blobs of a file and their bases, by id."""
        rows = self.query(
            f"WITH own AS (SELECT DISTINCT blob_id FROM extents WHERE inode_id = ?1)"
            f" {_SELECT_BLOBS} WHERE blobs.id IN"
            " (SELECT blob_id FROM own UNION SELECT base_id FROM blobs WHERE id IN own AND base_id IS NOT NULL)",
            (inode.id,),
        )
        blobs = (self._blob(row) for row in rows)
        return {blob.id: blob for blob in blobs}

    def blobs_by_fingerprint(self, fingerprint: bytes, nbytes: int) -> list[Blob]:
        rows = self.query(
            f"{_SELECT_BLOBS} WHERE fingerprint = ? AND blobs.nbytes = ?",
            (fingerprint, nbytes),
        )
        return [self._blob(row) for row in rows]

    def _blob(self, row: Sequence[Any]) -> Blob:
        blob_id, nbytes, fingerprint, dtype, shape, base_id, base_offset, pack, pack_offset, frames, stored = row
        with translated(self.path):
            _check_integers(blob_id, nbytes, base_offset, pack_offset)
            blob = Blob(
                BlobId(blob_id),
                nbytes,
                fingerprint,
                dtype,
                tuple(json.loads(shape)),
                None if base_id is None else BaseRef(BlobId(base_id), base_offset),
                PackName(_blob_column(pack)),
                pack_offset,
                np.frombuffer(frames, "<u4"),
            )
        if len(blob.frames) != frame_count(nbytes) or blob.stored_nbytes != stored:
            raise CatalogDamaged(f"row of blob {blob_id} contradicts itself")
        return blob

    def packs(self) -> dict[PackName, int]:
        """Size in bytes of every pack, in the order in which they were added."""
        with translated(self.path):
            rows = self.query("SELECT name, nbytes FROM packs ORDER BY id")
            return {PackName(_blob_column(name)): nbytes for name, nbytes in rows}

    def failures(self) -> dict[InodeId, tuple[str, int, int]]:
        """(message, attempts, time in ns) of what could not be sealed or compressed."""
        return {
            InodeId(inode): (message, attempts, at_ns)
            for inode, message, attempts, at_ns in self.query("SELECT inode_id, message, attempts, at_ns FROM failures")
        }


def retrying(read: Callable[[], T], attempts: int = 5) -> T:
    """Run a reading that may meet a pack which a collection has just moved: what it looked up is then out of date."""
    for _ in range(attempts - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    try:
        return read()
    except FileNotFoundError as error:
        raise Damaged(error.filename, "it is missing; `zipfs fsck` tells what is lost with it") from error
