"""Owns the catalog as one object: everything that can be asked of it.

The catalog is a view of the manifest log and the packs, kept in SQLite for its queries: it can be lost and made anew.
A `Catalog` is used by one thread at a time; open one per thread. The questions stand in a module for each subject;
`Transaction` in `writes.py` is the only way to change it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from zipfs.errors import CatalogDamaged, Damaged, UnknownVersion
from zipfs.store.catalog import log_record
from zipfs.store.catalog.maintenance_queries import MaintenanceQueries
from zipfs.store.catalog.migrations import MIGRATION_SET, SCRIPTS
from zipfs.store.catalog.similarity_queries import SimilarityQueries
from zipfs.store.catalog.sizes import SizeQueries
from zipfs.store.catalog.statistics import StatisticsQueries
from zipfs.store.catalog.tree_queries import TreeQueries
from zipfs.store.disk.stopping import Stop
from zipfs.store.objects.values import InodeId, is_size

T = TypeVar("T")

_PRELOADED_ROWS = 1 << 14
# SQLite reads the pages of what the sums are made of.
_PRELOAD_NAMES = (
    "SELECT max(part) FROM (SELECT inodes.mtime_ns + entries.sum AS part FROM inodes JOIN entries"
    " ON entries.inode_id = inodes.id ORDER BY inodes.id DESC LIMIT ?)"
)
_PRELOAD_CONTENTS = (
    "SELECT max(part) FROM (SELECT own.pack_offset + packs.nbytes + coalesce(bases.pack_offset, 0) AS part FROM extents"
    " JOIN blobs AS own ON own.id = blob_id JOIN packs ON packs.id = own.pack_id"
    " LEFT JOIN blobs AS bases ON bases.id = own.base_id ORDER BY inode_id DESC LIMIT ?)"
)
_SELECT_NEWEST_MEMBER = (
    "SELECT inode_id FROM extents WHERE blob_id ="
    " (SELECT id FROM blobs NOT INDEXED WHERE base_id IS NOT NULL ORDER BY id DESC LIMIT 1) LIMIT 1"
)
_SELECT_NEWEST_STORED = "SELECT inode_id FROM extents ORDER BY inode_id DESC LIMIT 1"


_LATER_COLUMNS = ("atime_ns", "spool_id")
"""Of inodes, what migrations have added."""


class Position(NamedTuple):
    """How far into the manifest log a catalog has come."""

    segment: int
    offset: int
    seq: int


class Failure(NamedTuple):
    """Why a file could not be sealed or compressed, how often that was tried, and when the last time."""

    message: str
    attempts: int
    at_ns: int


class Catalog(TreeQueries, SimilarityQueries, SizeQueries, StatisticsQueries, MaintenanceQueries):
    """`path` is catalog.db; once `stop` is set nobody is waited for. Raises NotAStore where the file is missing."""

    def __init__(self, path: Path, *, read_only: bool = False, stop: Stop | None = None) -> None:
        super().__init__(path, read_only=read_only, stop=stop)
        try:
            self.position()
            missing = [name for name in _LATER_COLUMNS if not self._has_column("inodes", name)] if read_only else []
            if missing:
                # Of a catalog that nobody has migrated yet. Once somebody does, the column of the table is the first of
                # the two of that name, and the one that is read.
                added = ", ".join(f"NULL AS {name}" for name in missing)
                self._query(f"CREATE TEMP VIEW inodes AS SELECT *, {added} FROM main.inodes")
        except BaseException:
            self.close()
            raise

    def position(self) -> Position:
        """Return how far into the log the catalog has come. Raises CatalogDamaged."""
        row = self._row("SELECT segment, offset, seq FROM position")
        if row is None:
            raise CatalogDamaged(f"{self.path}: it does not say how far it has come")
        position = Position(*row)
        if not is_size(*position) or position.seq >= log_record.SEQ_LIMIT:
            raise CatalogDamaged(f"{self.path}: it has come to a place that no log has, {position}")
        return position

    def next_ids(self) -> tuple[int, int]:
        """Return the ids that the next inode and the next blob get. Raises CatalogDamaged."""
        found = dict(self._query("SELECT name, next FROM counters"))
        if not is_size(found.get("inode"), found.get("blob")):
            raise CatalogDamaged(f"{self.path}: its counters are none")
        return found["inode"], found["blob"]

    def preload(self) -> None:
        """Have SQLite keep in its memory what leads from names to bytes for the newest files, a few MiB of rows."""
        self._query(_PRELOAD_NAMES, (_PRELOADED_ROWS,))
        self._query(_PRELOAD_CONTENTS, (_PRELOADED_ROWS,))

    def newest_model(self) -> InodeId | None:
        """Return the newest file that has a blob with a base, or if none has, the newest that is stored."""
        row = self._row(_SELECT_NEWEST_MEMBER) or self._row(_SELECT_NEWEST_STORED)
        return None if row is None else InodeId(row[0])

    def next_id(self, counter: Literal["inode", "blob"]) -> int:
        """Hand out an id of an "inode" or a "blob". A counter that was damaged gives no id that is in use."""
        row = self._row(
            f"UPDATE counters SET next = max(next, (SELECT coalesce(max(id), 0) + 1 FROM {counter}s)) + 1"
            " WHERE name = ? RETURNING next - 1",
            (counter,),
        )
        if row is None:
            raise CatalogDamaged(f"the counter of {counter}s is missing")
        if not is_size(row[0]):
            raise CatalogDamaged(f"the counter of {counter}s is none")
        return int(row[0])

    def check_belongs(self, store_id: bytes) -> None:
        """Raise CatalogDamaged for the catalog of another store, UnknownVersion for one that a newer ZipFS changed."""
        if self._row("SELECT store_id FROM position") != (store_id,):
            raise CatalogDamaged(f"{self.path} belongs to another store")
        rows = self._query("SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY 1", (MIGRATION_SET,))
        unknown = [str(name) for (name,) in rows if name not in SCRIPTS]
        if unknown:
            raise UnknownVersion(f"catalog {self.path}", ", ".join(unknown), max(SCRIPTS))

    def has_failure(self, inode_id: InodeId) -> bool:
        """Return whether a file has an entry in `failures`."""
        return self._row("SELECT 1 FROM failures WHERE inode_id = ?", (inode_id,)) is not None

    def failures(self) -> dict[InodeId, Failure]:
        """Return what could not be sealed or compressed."""
        rows = self._query("SELECT inode_id, message, attempts, at_ns FROM failures")
        return {InodeId(row[0]): Failure(*row[1:]) for row in rows}


def retrying(read: Callable[[], T], attempts: int = 5) -> T:
    """Repeat a reading that met a pack which a collection has just moved: what it had looked up was out of date."""
    for _ in range(attempts - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    try:
        return read()
    except FileNotFoundError as error:
        raise Damaged(error.filename, "it is missing; `zipfs fsck` tells what is lost with it") from error
