"""Owns the queries for blobs and packs: what a blob is, where its frames lie, who holds it.

Used by the thread whose catalog it is; `BlobRows` may be read by any thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from zipfs.codec import Cast, frame_nbytes
from zipfs.errors import CatalogDamaged
from zipfs.store.catalog.database import Database, rows_made_values
from zipfs.store.catalog.tree_queries import blob_column, check_integers
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, Extent, Inode, InodeId, PackName, is_size

_SELECT_BLOBS = (
    "SELECT blobs.id, blobs.nbytes, fingerprint, dtype, shape, base_id, base_offset, {view}, packs.name, pack_offset,"
    " frames, stored_nbytes FROM blobs JOIN packs ON packs.id = pack_id"
)
_DTYPE_COLUMN = 3
_PACK_COLUMN = 9
_VIEW_COLUMNS = "base_nbytes, base_cast"
_VIEW_BEFORE_VIEWS = "blobs.nbytes, ''"
"""What stands for `_VIEW_COLUMNS` in a catalog that was opened read-only and lacks the migration `0002-views`."""


def _view(offset: int, nbytes: int, cast: str) -> View:
    check_integers(offset, nbytes)
    return View(offset, nbytes, Cast.from_text(cast) if cast else None)


@lru_cache(4096)
def _shape(text: str) -> tuple[int, ...]:
    """Raise ValueError for what is no list."""
    try:
        return tuple(json.loads(text))  # a model has few shapes and many tensors
    except RecursionError as error:
        raise ValueError("a shape that is nested without end") from error


class BlobRows(Mapping[BlobId, Blob]):
    """Blobs by id. Each is made and checked when it is asked for, and raises CatalogDamaged then: a file has hundreds,
    and whoever opens it needs few of them soon.
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
        """The packs that hold the blobs. Raises CatalogDamaged."""
        names = {row[_PACK_COLUMN] for row in self._rows.values()}
        if not all(isinstance(name, bytes) for name in names):
            raise CatalogDamaged("the name of a pack is not bytes")
        return {PackName(name) for name in names}

    def steps(self, extents: Sequence[Extent]) -> list[int]:
        """Return the raw bytes of the frames, but for the last, of the blob of each extent; no blob is made."""
        nbytes = {blob_id: frame_nbytes(row[_DTYPE_COLUMN]) for blob_id, row in self._rows.items()}
        return [nbytes[extent.blob_id] for extent in extents]


class BlobQueries(Database):
    """The part of a `Catalog` that knows of blobs and packs."""

    _has_views = False

    def blob(self, blob_id: BlobId) -> Blob:
        """Return a blob. Raises CatalogDamaged where it is missing or contradicts itself."""
        row = self._row(f"{self._select_blobs()} WHERE blobs.id = ?", (blob_id,))
        if row is None:
            raise CatalogDamaged(f"blob {blob_id} is missing")
        return self._blob(row)

    def has_blob(self, blob_id: BlobId) -> bool:
        """Return whether there is a blob with this id."""
        return self._row("SELECT 1 FROM blobs WHERE id = ?", (blob_id,)) is not None

    def blobs_of(self, inode: Inode) -> BlobRows:
        """Return the blobs of a file and their bases."""
        rows = self._query(
            f"WITH own AS (SELECT DISTINCT blob_id FROM extents WHERE inode_id = ?)"
            f" {self._select_blobs()} WHERE blobs.id IN"
            " (SELECT blob_id FROM own UNION SELECT base_id FROM blobs WHERE id IN own AND base_id IS NOT NULL)",
            (inode.id,),
        )
        return BlobRows(rows, self._blob)

    def blobs_with_bases(self, blob_ids: Sequence[int]) -> BlobRows:
        """Return those of some blobs that there are, and their bases."""
        rows = self._query(
            f"WITH own AS (SELECT value FROM json_each(?)) {self._select_blobs()} WHERE blobs.id IN"
            " (SELECT value FROM own UNION SELECT base_id FROM blobs WHERE id IN own AND base_id IS NOT NULL)",
            (json.dumps(blob_ids),),
        )
        return BlobRows(rows, self._blob)

    def blobs_by_fingerprint(self, fingerprint: bytes, nbytes: int) -> list[Blob]:
        """Return the blobs that may hold the bytes with this fingerprint and length."""
        rows = self._query(
            f"{self._select_blobs()} WHERE fingerprint = ? AND blobs.nbytes = ?",
            (fingerprint, nbytes),
        )
        return [self._blob(row) for row in rows]

    def packs(self) -> dict[PackName, int]:
        """Return the size in bytes of every pack, in the order in which they were added."""
        rows = self._query("SELECT name, nbytes FROM packs ORDER BY id")
        with rows_made_values(self.path):
            check_integers(*(nbytes for _, nbytes in rows))
            return {PackName(blob_column(name)): nbytes for name, nbytes in rows}

    def used_members_of(self, base_id: int) -> list[BlobId]:
        """Return the blobs that files hold and that are coded against a base."""
        rows = self._query("SELECT id FROM blobs WHERE base_id = ? AND id IN (SELECT blob_id FROM extents)", (base_id,))
        return [BlobId(row[0]) for row in rows]

    def users_of_blob(self, blob_id: BlobId) -> list[InodeId]:
        """Return the files that hold a blob or one that is coded against it."""
        rows = self._query(
            "SELECT DISTINCT inode_id FROM extents WHERE blob_id = ?"
            " OR blob_id IN (SELECT id FROM blobs WHERE base_id = ?)",
            (blob_id, blob_id),
        )
        return [InodeId(row[0]) for row in rows]

    def files_with_bases_of(self, inode_id: InodeId, at_most: int) -> list[InodeId]:
        """Return up to `at_most` files that hold bases of the blobs of a file, those first that hold most of them."""
        rows = self._query(
            "SELECT inode_id FROM extents WHERE blob_id IN (SELECT base_id FROM blobs WHERE base_id IS NOT NULL"
            " AND id IN (SELECT blob_id FROM extents WHERE inode_id = ?))"
            " GROUP BY inode_id ORDER BY count(*) DESC LIMIT ?",
            (inode_id, at_most),
        )
        return [InodeId(row[0]) for row in rows]

    def _select_blobs(self) -> str:
        return _SELECT_BLOBS.format(view=self._view_columns())

    def _view_columns(self) -> str:
        """Return what to select from blobs for how many bytes a view has, and its cast."""
        if not self._has_views:  # another process may have migrated the catalog meanwhile
            self._has_views = self._has_column("blobs", "base_cast")
        return _VIEW_COLUMNS if self._has_views else _VIEW_BEFORE_VIEWS

    def _has_column(self, table: str, column: str) -> bool:
        return any(row[1] == column for row in self._query(f"PRAGMA table_info({table})"))

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
        if len(blob.frames) != blob.frame_count or blob.stored_nbytes != stored or not ends:
            raise CatalogDamaged(f"row of blob {blob_id} contradicts itself")
        return blob
