"""The catalog: what can be asked of it.

The catalog is a view of the manifest log and the packs, kept in SQLite for its queries: it can be lost and made anew.
A `Catalog` is used by one thread at a time; open one per thread. `Transaction` in `writes.py` is the only way to
change it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from zipfs.codec import Cast
from zipfs.errors import CatalogDamaged, Damaged
from zipfs.store.catalog import log_record
from zipfs.store.catalog.database import rows_made_values
from zipfs.store.catalog.tree_queries import TreeCatalog, blob_column, check_integers
from zipfs.store.disk.stopping import Stop
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, Inode, InodeId, PackName, frame_count, is_size

T = TypeVar("T")

_SELECT_BLOBS = (
    "SELECT blobs.id, blobs.nbytes, fingerprint, dtype, shape, base_id, base_offset, {view}, packs.name, pack_offset,"
    " frames, stored_nbytes FROM blobs JOIN packs ON packs.id = pack_id"
)
_PACK_COLUMN = 9
_PRELOADED_ROWS = 1 << 14
# What is looked at is what SQLite reads the pages for.
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
WHOLE_VIEW = "base_offset = 0 AND base_nbytes = blobs.nbytes AND base_cast = ''"
"""Of a blob with a base: whether each byte is coded against the byte of the base at the same place."""
SOUND_SIGNATURE = "typeof(signature) = 'blob' AND length(signature) = 32"
"""SQLite keeps the type of a value beside it; after a flipped bit it may be another one."""
_VIEW_COLUMNS = "base_nbytes, base_cast"
_VIEW_BEFORE_VIEWS = "blobs.nbytes, ''"
"""The same of a catalog that was opened read-only and lacks the migration `0002-views`."""


class Position(NamedTuple):
    """How far into the manifest log a catalog has come."""

    segment: int
    offset: int
    seq: int


def _view(offset: int, nbytes: int, cast: str) -> View:
    check_integers(offset, nbytes)
    return View(offset, nbytes, Cast.from_text(cast) if cast else None)


@lru_cache(4096)
def _shape(text: str) -> tuple[int, ...]:
    """Raises ValueError."""
    try:
        return tuple(json.loads(text))  # a model has few shapes and many tensors
    except RecursionError as error:
        raise ValueError("a shape that is nested without end") from error


class BlobRows(Mapping[BlobId, Blob]):
    """Blobs by id. Each is made and checked when it is asked for, and raises CatalogDamaged then: a file has hundreds,
    and whoever opens it needs few of them soon. Any thread may call.
    """

    def __init__(self, rows: Sequence[tuple[Any, ...]], make: Callable[[Sequence[Any]], Blob]) -> None:
        self._rows = {BlobId(row[0]): row for row in rows}
        self._make = make

    def __getitem__(self, blob_id: BlobId) -> Blob:
        return self._make(self._rows[blob_id])

    def __contains__(self, blob_id: object) -> bool:
        return blob_id in self._rows

    def __iter__(self) -> Iterator[BlobId]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def packs(self) -> set[PackName]:
        """The packs that hold them. Raises CatalogDamaged."""
        names = {row[_PACK_COLUMN] for row in self._rows.values()}
        if not all(isinstance(name, bytes) for name in names):
            raise CatalogDamaged("the name of a pack is not bytes")
        return {PackName(name) for name in names}


class Catalog(TreeCatalog):
    """`path` is catalog.db; once `stop` is set nobody is waited for. Raises NotAStore where the file is missing."""

    def __init__(self, path: Path, *, read_only: bool = False, stop: Stop | None = None) -> None:
        super().__init__(path, read_only=read_only, stop=stop)
        self.position()
        if read_only and not self._has_column("inodes", "atime_ns"):
            # Of a catalog that nobody has migrated yet. Once somebody does, the column of the table is the first of the
            # two of that name, and the one that is read.
            self.query("CREATE TEMP VIEW inodes AS SELECT *, NULL AS atime_ns FROM main.inodes")
        self._has_views = False

    def position(self) -> Position:
        row = self.row("SELECT segment, offset, seq FROM position")
        if row is None:
            raise CatalogDamaged(f"{self.path}: it does not say how far it has come")
        position = Position(*row)
        if not is_size(*position) or position.seq >= log_record.SEQ_LIMIT:
            raise CatalogDamaged(f"{self.path}: it has come to a place that no log has, {position}")
        return position

    def next_ids(self) -> tuple[int, int]:
        """The ids that the next inode and the next blob get. Raises CatalogDamaged."""
        found = dict(self.query("SELECT name, next FROM counters"))
        if not is_size(found.get("inode"), found.get("blob")):
            raise CatalogDamaged(f"{self.path}: its counters are none")
        return found["inode"], found["blob"]

    def preload(self) -> None:
        """Have SQLite keep in its memory what leads from names to bytes for the newest files, a few MiB of rows."""
        self.query(_PRELOAD_NAMES, (_PRELOADED_ROWS,))
        self.query(_PRELOAD_CONTENTS, (_PRELOADED_ROWS,))

    def newest_model(self) -> InodeId | None:
        """The newest file that has a blob with a base, or if none has, the newest that is stored."""
        row = self.row(_SELECT_NEWEST_MEMBER) or self.row(_SELECT_NEWEST_STORED)
        return None if row is None else InodeId(row[0])

    def next_id(self, counter: str) -> int:
        """Hand out an id of an "inode" or a "blob". A counter that was damaged gives no id that is in use."""
        row = self.row(
            f"UPDATE counters SET next = max(next, (SELECT coalesce(max(id), 0) + 1 FROM {counter}s)) + 1"
            " WHERE name = ? RETURNING next - 1",
            (counter,),
        )
        if row is None:
            raise CatalogDamaged(f"the counter of {counter}s is missing")
        if not is_size(row[0]):
            raise CatalogDamaged(f"the counter of {counter}s is none")
        return int(row[0])

    # Blobs

    def blob(self, blob_id: BlobId) -> Blob:
        row = self.row(f"{self._select_blobs()} WHERE blobs.id = ?", (blob_id,))
        if row is None:
            raise CatalogDamaged(f"blob {blob_id} is missing")
        return self._blob(row)

    def blobs_of(self, inode: Inode) -> BlobRows:
        """The blobs of a file and their bases."""
        rows = self.query(
            f"WITH own AS (SELECT DISTINCT blob_id FROM extents WHERE inode_id = ?1)"
            f" {self._select_blobs()} WHERE blobs.id IN"
            " (SELECT blob_id FROM own UNION SELECT base_id FROM blobs WHERE id IN own AND base_id IS NOT NULL)",
            (inode.id,),
        )
        return BlobRows(rows, self._blob)

    def blobs_by_fingerprint(self, fingerprint: bytes, nbytes: int) -> list[Blob]:
        rows = self.query(
            f"{self._select_blobs()} WHERE fingerprint = ? AND blobs.nbytes = ?",
            (fingerprint, nbytes),
        )
        return [self._blob(row) for row in rows]

    def anchored(self, hashes: Sequence[int], at_most: int) -> list[BlobId]:
        """The blobs that have most of these hashes as anchors, at most `at_most` of them."""
        rows = self.query(
            "SELECT blob_id FROM json_each(?) CROSS JOIN anchors ON hash = value"
            " GROUP BY blob_id ORDER BY count(*) DESC, blob_id DESC LIMIT ?",
            (json.dumps(hashes), at_most),
        )
        return [BlobId(row[0]) for row in rows]

    def landmarks(self, blob_ids: Sequence[BlobId]) -> list[tuple[BlobId, str, int, bytes]]:
        """(blob id, dtype, bytes, landmarks) of those of the blobs that are coded alone."""
        return self.query(
            "SELECT blob_id, dtype, nbytes, landmarks FROM json_each(?) CROSS JOIN landmarks ON blob_id = value"
            " JOIN blobs ON blobs.id = blob_id WHERE base_id IS NULL AND typeof(landmarks) = 'blob'",
            (json.dumps(blob_ids),),
        )

    def landmarks_of_members(self, base_ids: Sequence[BlobId], at_most: int) -> list[tuple[BlobId, str, int, bytes]]:
        """The same of the newest blobs that are coded against each of some others."""
        return self.query(
            "SELECT blob_id, dtype, nbytes, landmarks FROM json_each(?) CROSS JOIN blobs ON blobs.id IN"
            " (SELECT id FROM blobs WHERE base_id = value ORDER BY id DESC LIMIT ?)"
            " JOIN landmarks ON blob_id = blobs.id WHERE typeof(landmarks) = 'blob'",
            (json.dumps(base_ids), at_most),
        )

    def _select_blobs(self) -> str:
        return _SELECT_BLOBS.format(view=self.view_columns())

    def view_columns(self) -> str:
        """What to select from blobs for how many bytes a view has, and its cast."""
        if not self._has_views:  # another process may have migrated the catalog meanwhile
            self._has_views = self._has_column("blobs", "base_cast")
        return _VIEW_COLUMNS if self._has_views else _VIEW_BEFORE_VIEWS

    def _has_column(self, table: str, column: str) -> bool:
        return any(row[1] == column for row in self.query(f"PRAGMA table_info({table})"))

    def _blob(self, row: Sequence[Any]) -> Blob:
        blob_id, nbytes, fingerprint, dtype, shape, base_id, *view, pack, pack_offset, frames, stored = row
        with rows_made_values(self.path):
            check_integers(blob_id, nbytes, pack_offset)
            blob = Blob(
                BlobId(blob_id),
                nbytes,
                fingerprint,
                dtype,
                _shape(shape),
                None if base_id is None else BaseRef(BlobId(base_id), _view(*view)),
                PackName(blob_column(pack)),
                pack_offset,
                np.frombuffer(frames, "<u4"),
            )
        ends = is_size(pack_offset + blob.stored_nbytes)
        if len(blob.frames) != frame_count(nbytes) or blob.stored_nbytes != stored or not ends:
            raise CatalogDamaged(f"row of blob {blob_id} contradicts itself")
        return blob

    def packs(self) -> dict[PackName, int]:
        """Size in bytes of every pack, in the order in which they were added."""
        rows = self.query("SELECT name, nbytes FROM packs ORDER BY id")
        with rows_made_values(self.path):
            check_integers(*(nbytes for _, nbytes in rows))
            return {PackName(blob_column(name)): nbytes for name, nbytes in rows}

    def has_failure(self, inode_id: InodeId) -> bool:
        """Whether something is noted of a file in `failures`."""
        return self.row("SELECT 1 FROM failures WHERE inode_id = ?", (inode_id,)) is not None

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
