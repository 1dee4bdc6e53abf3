"""Owns the queries for what base search and base planning know of tensors: sketches, signatures, minhash samples, index
keys.

The tables `landmarks` and `anchors` hold the minhash samples of tensors and the keys of the index over them. Used by
the thread whose catalog it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from zipfs.store.catalog.blob_queries import BlobQueries
from zipfs.store.objects.values import BlobId

_IS_WHOLE_VIEW = "base_offset = 0 AND base_nbytes = blobs.nbytes AND base_cast = ''"
"""Of a blob with a base: whether each byte is coded against the byte of the base at the same place."""
_IS_SOUND = "typeof(signature) = 'blob' AND length(signature) = 32"
"""SQLite keeps the type of a value beside it; after a flipped bit it may be another one."""
_IDS_AT_ONCE = 1000


class TensorGroup(NamedTuple):
    """Tensors that can be compared: one dtype, one length in bytes."""

    dtype: str
    nbytes: int
    tensors: int


class StoredSamples(NamedTuple):
    """The encoded minhash samples of a tensor of `nbytes` bytes, b"" if none are kept or they are damaged."""

    blob_id: BlobId
    dtype: str
    nbytes: int
    samples: bytes


class PlannedTensor(NamedTuple):
    """What a plan needs to know of a tensor.

    `is_used` says that a file holds it, `is_whole_view` that each byte is coded against the byte of the base at the
    same place.
    """

    blob_id: BlobId
    stored_nbytes: int
    base_id: BlobId | None
    is_whole_view: bool
    is_used: bool


class Member(NamedTuple):
    """A blob that a file holds and that is coded against `base_id`; `is_whole_view` as in `PlannedTensor`."""

    base_id: BlobId
    blob_id: BlobId
    is_whole_view: bool


class SimilarityQueries(BlobQueries):
    """The part of a `Catalog` that knows which tensors may resemble each other."""

    _has_tables = False

    def _knows_tensors(self) -> bool:
        """Return whether there are tables to ask: a catalog of an older ZipFS that is only read may have none."""
        if not self._has_tables:  # another process may have migrated the catalog meanwhile
            found = self._query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'signatures'")
            self._has_tables = bool(found)
        return self._has_tables

    # Index keys and minhash samples

    def blobs_with_index_keys(self, hashes: Sequence[int], at_most: int) -> list[BlobId]:
        """Return the blobs that have most of some hashes as index keys, at most `at_most` of them."""
        if not self._knows_tensors():
            return []
        rows = self._query(
            "SELECT blob_id FROM json_each(?) CROSS JOIN anchors ON hash = value"
            " GROUP BY blob_id ORDER BY count(*) DESC, blob_id DESC LIMIT ?",
            (json.dumps(hashes), at_most),
        )
        return [BlobId(row[0]) for row in rows]

    def samples_of_standalone(self, blob_ids: Sequence[int]) -> list[StoredSamples]:
        """Return those of some blobs that are coded standalone, in their order, with their minhash samples."""
        if not self._knows_tensors():
            return []
        rows = self._query(
            "SELECT blobs.id, dtype, nbytes, iif(typeof(landmarks) = 'blob', landmarks, x'') FROM json_each(?)"
            " CROSS JOIN blobs ON blobs.id = value LEFT JOIN landmarks ON blob_id = blobs.id"
            " WHERE base_id IS NULL AND dtype <> ''",
            (json.dumps(blob_ids),),
        )
        return [StoredSamples(*row) for row in rows]

    def samples_of_members(self, base_ids: Sequence[int], at_most: int) -> list[StoredSamples]:
        """Return the minhash samples of the newest `at_most` blobs that are coded against each of some bases."""
        if not self._knows_tensors():
            return []
        rows = self._query(
            "SELECT blob_id, dtype, nbytes, landmarks FROM json_each(?) CROSS JOIN blobs ON blobs.id IN"
            " (SELECT id FROM blobs WHERE base_id = value ORDER BY id DESC LIMIT ?)"
            " JOIN landmarks ON blob_id = blobs.id WHERE typeof(landmarks) = 'blob'",
            (json.dumps(base_ids), at_most),
        )
        return [StoredSamples(*row) for row in rows]

    # Sketches and signatures

    def sketches(self, blob_ids: Sequence[int]) -> dict[BlobId, bytes]:
        """Return the sketches of those of some blobs that have one."""
        rows = self._query(
            "SELECT blob_id, sketch FROM json_each(?) CROSS JOIN sketches ON blob_id = value"
            " WHERE typeof(sketch) = 'blob'",
            (json.dumps(blob_ids),),
        )
        return {BlobId(blob_id): sketch for blob_id, sketch in rows}

    def standalone_of(self, blob_ids: Sequence[int]) -> list[BlobId]:
        """Return those of some blobs that are coded standalone, in their order."""
        rows = self._query(
            "SELECT blobs.id FROM json_each(?) CROSS JOIN blobs ON blobs.id = value WHERE base_id IS NULL",
            (json.dumps(blob_ids),),
        )
        return [BlobId(row[0]) for row in rows]

    def signatures(self, blob_ids: Sequence[int]) -> dict[BlobId, bytes]:
        """Return the signatures of those of some blobs that have one; none in a catalog of an older ZipFS."""
        if not self._knows_tensors():
            return {}
        rows = self._query(
            f"SELECT blob_id, signature FROM json_each(?) CROSS JOIN signatures ON blob_id = value WHERE {_IS_SOUND}",
            (json.dumps(blob_ids),),
        )
        return {BlobId(blob_id): signature for blob_id, signature in rows}

    def signatures_of_group(self, dtype: str, nbytes: int) -> list[tuple[BlobId, bytes]]:
        """Return (blob id, signature) of all tensors of one dtype and length, in order of id."""
        return self._query(
            "SELECT id, signature FROM blobs JOIN signatures ON blob_id = id"
            f" WHERE dtype = ? AND dtype <> '' AND nbytes = ? AND {_IS_SOUND} ORDER BY id",
            (dtype, nbytes),
        )

    def signatures_of_standalone(self, dtype: str, nbytes: int, after: int) -> list[tuple[BlobId, bytes]]:
        """Return (blob id, signature) of the tensors of one dtype and length that are coded standalone and have an id
        above `after`, in order of id.
        """
        if not self._knows_tensors():
            return []
        return self._query(
            "SELECT id, signature FROM blobs JOIN signatures ON blob_id = id"
            " WHERE dtype = ? AND dtype <> '' AND nbytes = ? AND base_id IS NULL AND id > ?"
            f" AND {_IS_SOUND} ORDER BY id",
            (dtype, nbytes, after),
        )

    def signatures_of_members(self, base_id: int, nbytes: int, at_most: int) -> list[tuple[BlobId, bytes]]:
        """Return (blob id, signature) of the newest `at_most` blobs of one length that are coded against the whole of
        a base, the newest first.
        """
        if not self._knows_tensors():
            return []
        return self._query(
            "SELECT id, signature FROM blobs JOIN signatures ON blob_id = id"
            f" WHERE base_id = ? AND {_IS_WHOLE_VIEW} AND nbytes = ? AND {_IS_SOUND} ORDER BY id DESC LIMIT ?",
            (base_id, nbytes, at_most),
        )

    # What is to be made anew

    def blobs_without_signature(self, least_nbytes: int, least_member_nbytes: int) -> list[BlobId]:
        """Return the tensors without a sound signature that have at least so many bytes, standalone or as members."""
        rows = self._query(
            "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= iif(base_id IS NULL, ?, ?)"
            f" AND id NOT IN (SELECT blob_id FROM signatures WHERE {_IS_SOUND}) ORDER BY id",
            (least_nbytes, least_member_nbytes),
        )
        return [BlobId(row[0]) for row in rows]

    def blobs_without_samples(self, least_nbytes: int, read_anew_nbytes: int) -> list[BlobId]:
        """Return the tensors of at least `least_nbytes` bytes that have no minhash samples, or no index keys if they
        are coded standalone and have `read_anew_nbytes` bytes or less.
        """
        rows = self._query(
            "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= ? AND"
            " iif(base_id IS NULL AND nbytes <= ?, id NOT IN (SELECT blob_id FROM anchors),"
            " id NOT IN (SELECT blob_id FROM landmarks)) ORDER BY id",
            (least_nbytes, read_anew_nbytes),
        )
        return [BlobId(row[0]) for row in rows]

    def has_samples(self, blob_id: int) -> bool:
        """Return whether minhash samples of a blob are kept."""
        return self._row("SELECT 1 FROM landmarks WHERE blob_id = ?", (blob_id,)) is not None

    def members_with_samples_of_version(self, version: int, after: int, at_most: int) -> list[StoredSamples]:
        """Return the first `at_most` members with an id above `after` whose encoded samples begin with a byte."""
        rows = self._query(
            "SELECT blob_id, dtype, nbytes, landmarks FROM landmarks JOIN blobs ON id = blob_id WHERE blob_id > ?"
            " AND base_id IS NOT NULL AND typeof(landmarks) = 'blob' AND substr(landmarks, 1, 1) = ?"
            " ORDER BY blob_id LIMIT ?",
            (after, bytes([version]), at_most),
        )
        return [StoredSamples(*row) for row in rows]

    def is_member(self, blob_id: int) -> bool | None:
        """Return whether a blob has a base, None if there is no such blob."""
        row = self._row("SELECT base_id IS NOT NULL FROM blobs WHERE id = ?", (blob_id,))
        return None if row is None else bool(row[0])

    # Planning

    def tensor_groups(self, least_nbytes: int) -> list[TensorGroup]:
        """Return the groups of two or more tensors of at least `least_nbytes` bytes, the largest groups first."""
        rows = self._query(
            "SELECT dtype, nbytes, count(*) FROM blobs WHERE dtype <> '' AND nbytes >= ? GROUP BY dtype, nbytes"
            " HAVING count(*) > 1 ORDER BY nbytes * count(*) DESC",
            (least_nbytes,),
        )
        return [TensorGroup(*row) for row in rows]

    def dtype_and_nbytes_of_standalone(self, blob_id: int, least_nbytes: int) -> tuple[str, int] | None:
        """Return (dtype, length) of a blob that is coded standalone and has `least_nbytes` bytes or more, else None."""
        row = self._row(
            "SELECT dtype, nbytes FROM blobs WHERE id = ? AND base_id IS NULL AND nbytes >= ?", (blob_id, least_nbytes)
        )
        return None if row is None else (row[0], row[1])

    def whole_view_members(self, base_id: int, dtype: str, nbytes: int, at_most: int) -> list[BlobId]:
        """Return up to `at_most` blobs of one dtype and length that are coded against the whole of a base."""
        rows = self._query(
            f"SELECT id FROM blobs WHERE base_id = ? AND {_IS_WHOLE_VIEW} AND dtype = ? AND nbytes = ? LIMIT ?",
            (base_id, dtype, nbytes, at_most),
        )
        return [BlobId(row[0]) for row in rows]

    def used_members(self, base_ids: Sequence[int]) -> list[Member]:
        """Return the blobs that files hold and that are coded against any of at most `_IDS_AT_ONCE` bases."""
        assert len(base_ids) <= _IDS_AT_ONCE
        rows = self._query(
            f"SELECT base_id, id, {_IS_WHOLE_VIEW} FROM blobs WHERE base_id IN ({_marks(base_ids)})"
            " AND id IN (SELECT blob_id FROM extents)",
            base_ids,
        )
        return [Member(*row) for row in rows]

    def planned_tensors(self, blob_ids: Sequence[int]) -> list[PlannedTensor]:
        """Return, in order of id, what a plan needs of at most `_IDS_AT_ONCE` blobs."""
        assert len(blob_ids) <= _IDS_AT_ONCE
        rows = self._query(
            f"SELECT id, stored_nbytes, base_id, {_IS_WHOLE_VIEW},"
            " EXISTS (SELECT 1 FROM extents WHERE extents.blob_id = id)"
            f" FROM blobs WHERE id IN ({_marks(blob_ids)}) AND typeof(stored_nbytes) = 'integer' ORDER BY id",
            blob_ids,
        )
        return [PlannedTensor(*row) for row in rows]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
