"""Owns the statistics of blobs and their bases, many rows at a time: for inspecting a store, not for serving it.

Rows of blobs are checked for what contradicts itself or names what is not there; their frames are not read.  Several
answers are of one moment only in a snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipfs.codec import frame_nbytes
from zipfs.errors import CatalogDamaged
from zipfs.store.catalog.blob_queries import BlobQueries
from zipfs.store.objects.values import BlobId, InodeId

Integers = NDArray[np.int64]
_NONE = -1


@dataclass(frozen=True, slots=True)
class BlobTable:
    """Every blob, in ascending order of id; all columns have one value a blob, sizes in bytes.

    `bases` holds the row of a blob's base, -1 if it has none; `dtypes` is an index into `dtype_names`, in which ""
    stands for plain bytes.  `whole` says that the view is the whole base as it is and covers the blob, `cast` that it
    is cast.
    """

    ids: Integers
    nbytes: Integers
    stored_nbytes: Integers
    dtypes: NDArray[np.intp]
    dtype_names: tuple[str, ...]
    bases: NDArray[np.intp]
    whole: NDArray[np.bool_]
    cast: NDArray[np.bool_]

    def rows(self, ids: Integers) -> NDArray[np.intp]:
        """Return the rows of some blobs. Raises CatalogDamaged where one is missing."""
        return _rows(self.ids, ids)


class Use(NamedTuple):
    """Where a blob is used first: the file with the lowest id, the offset in it."""

    inode_id: InodeId
    offset: int


class Members(NamedTuple):
    """How many blobs are coded against one, and the lowest id of them."""

    number: int
    oldest: BlobId


class StatisticsQueries(BlobQueries):
    """The part of a `Catalog` that reads all blobs, or many, at once."""

    def blob_table(self) -> BlobTable:
        """Return all blobs. Raises CatalogDamaged."""
        rows = self._query(
            "SELECT id, nbytes, stored_nbytes, length(frames), coalesce(base_id, 0), base_offset, dtype,"
            f" {self._view_columns()} FROM blobs ORDER BY id"
        )
        columns = list(zip(*rows, strict=True)) or [()] * 9
        ids, nbytes, stored, frames, base_ids, offsets = (_integers(column) for column in columns[:6])
        names = [_text(name) for name in columns[6]]
        view_nbytes = _integers([value or 0 for value in columns[7]])
        cast = np.array([_text(value) != "" for value in columns[8]], np.bool_)
        codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
        dtypes = np.array([codes[name] for name in names], np.intp)
        steps = np.array([frame_nbytes(name) for name in codes], np.int64)[dtypes]
        wrong = (nbytes <= 0) | (stored <= 0) | (frames != 4 * -(-nbytes // steps)) | (offsets < 0) | (base_ids < 0)
        if wrong.any():
            raise CatalogDamaged(f"row of blob {int(ids[wrong][0])} contradicts itself")
        has_base = base_ids != 0
        bases = np.full(ids.size, _NONE, np.intp)
        bases[has_base] = _rows(ids, base_ids[has_base])
        base_nbytes = np.zeros(ids.size, np.int64)
        base_nbytes[has_base] = nbytes[bases[has_base]]
        outside = has_base & (offsets + view_nbytes > base_nbytes)
        if outside.any():
            raise CatalogDamaged(f"blob {int(ids[outside][0])} is coded against bytes that its base does not have")
        whole = has_base & (offsets == 0) & (view_nbytes == base_nbytes) & (view_nbytes == nbytes) & ~cast
        return BlobTable(ids, nbytes, stored, dtypes, tuple(codes), bases, whole, cast)

    def first_uses(self, blob_ids: Sequence[int]) -> dict[BlobId, Use]:
        """Return where each of some blobs is used first; unused ones are left out. Its bytes count for that file."""
        first = "(SELECT {} FROM extents WHERE blob_id = value ORDER BY inode_id, offset LIMIT 1)"
        rows = self._query(
            f"SELECT value, {first.format('inode_id')}, {first.format('offset')} FROM json_each(?)",
            (json.dumps(blob_ids),),
        )
        return {BlobId(blob_id): Use(InodeId(inode), offset) for blob_id, inode, offset in rows if inode is not None}

    def members_of(self, blob_ids: Sequence[int]) -> dict[BlobId, Members]:
        """Return which blobs are coded against each of some; those that serve none are left out."""
        rows = self._query(
            "SELECT base_id, count(*), min(blobs.id) FROM json_each(?) CROSS JOIN blobs ON base_id = value"
            " WHERE base_id IS NOT NULL GROUP BY base_id",
            (json.dumps(blob_ids),),
        )
        return {BlobId(blob_id): Members(count, BlobId(oldest)) for blob_id, count, oldest in rows}


def _rows(ids: Integers, wanted: Integers) -> NDArray[np.intp]:
    found = np.searchsorted(ids, wanted)
    known = found < ids.size
    known[known] = ids[found[known]] == wanted[known]
    if not known.all():
        raise CatalogDamaged(f"blob {int(wanted[~known][0])} is missing")
    return found


def _integers(column: Sequence[object]) -> Integers:
    if not all(type(value) is int for value in column):
        raise CatalogDamaged("a row of a blob holds what is no number where sizes and ids belong")
    try:
        return np.array(column, np.int64)
    except OverflowError as error:
        raise CatalogDamaged("a row of a blob holds a number that is too large") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise CatalogDamaged("a row of a blob holds what is no text where its type belongs")
    return value
