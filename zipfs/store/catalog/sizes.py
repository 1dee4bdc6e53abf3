"""Owns the sizes of what a store holds and takes, each defined once: whoever shows one of them takes it from here.

    raw       bytes of the files that are served, each file once whatever the number of its names
    stored    pack files and spool: what all of that takes on disk, but for catalog and manifest log

Of what is in packs, each blob that a file uses counts for the first file (by id) that does: that is what this file
*added*.  The rest of the packs is what removed files have left behind, kept or unused, and the packs' own indices.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zipfs.store.catalog.blob_queries import BlobQueries
from zipfs.store.objects.values import InodeId, State

_ADDED = (
    "SELECT value, sum(stored_nbytes) FROM json_each(?) CROSS JOIN blobs"
    " ON blobs.id IN (SELECT blob_id FROM extents WHERE inode_id = value) WHERE NOT EXISTS"
    " (SELECT 1 FROM extents WHERE blob_id = blobs.id AND inode_id < value) GROUP BY value"
)
_HEIRS = (
    "SELECT DISTINCT (SELECT min(inode_id) FROM extents WHERE blob_id = own.blob_id AND inode_id > ?) FROM"
    " (SELECT DISTINCT blob_id FROM extents WHERE inode_id = ?) AS own WHERE NOT EXISTS"
    " (SELECT 1 FROM extents WHERE blob_id = own.blob_id AND inode_id < ?)"
)
_USED = "(SELECT blob_id FROM extents)"
_BASES_IN_USE = f"(SELECT base_id FROM blobs WHERE base_id IS NOT NULL AND id IN {_USED})"
# Served at the moment, or waiting to be compressed and served meanwhile. To look for the served name of each stored
# file would take four times as long as to count all of them.
_NOT_SERVED = (
    "id IN (SELECT inode_id FROM entries WHERE area <> 0)"
    " AND NOT EXISTS (SELECT 1 FROM entries WHERE inode_id = id AND area = 0)"
)


# Served, and some of it from packs: what is written to it since lies in the spool.
_SHOWS_THROUGH = (
    "state IN ('open', 'sealed') AND state = 'open' AND layout_sum <> 0"
    " AND EXISTS (SELECT 1 FROM entries WHERE inode_id = id AND area = 0)"
)

_BELOW = (
    "WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT inode_id FROM below JOIN entries ON parent_id = below.id)"
    " SELECT state, sum(nbytes), sum(stored_nbytes) FROM inodes WHERE id IN below AND kind = 'file' GROUP BY state"
)


@dataclass(frozen=True, slots=True)
class ContentSizes:
    """The sizes that are asked for again and again while a store is being filled: counted in a few milliseconds.

    `files` and `raw_nbytes` are of what is served from packs, also while it is being changed, `spool_files` and
    `spool_nbytes` of what is served and not compressed yet.
    """

    files: int
    raw_nbytes: int
    packs: int
    packs_nbytes: int
    spool_files: int
    spool_nbytes: int


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """All sizes of a store, in bytes.

    The packs hold what files `added`, `kept` bases whose own files were removed, what is `unused` (neither), and for
    the rest their own indices.  `freeable_nbytes` is what a collection would free now: what is unused stays where most
    of its pack is in use.
    """

    content: ContentSizes
    added_nbytes: int
    kept_nbytes: int
    unused_nbytes: int
    freeable_nbytes: int

    @property
    def files(self) -> int:
        return self.content.files + self.content.spool_files

    @property
    def raw_nbytes(self) -> int:
        return self.content.raw_nbytes + self.content.spool_nbytes

    @property
    def stored_nbytes(self) -> int:
        return self.content.packs_nbytes + self.content.spool_nbytes

    @property
    def index_nbytes(self) -> int:
        return self.content.packs_nbytes - self.added_nbytes - self.kept_nbytes - self.unused_nbytes


class FileSizes(NamedTuple):
    """Sums over files: their content, and what storing them added to the packs."""

    nbytes: int
    stored_nbytes: int


class SizeQueries(BlobQueries):
    """The part of a `Catalog` that counts bytes."""

    def content_sizes(self) -> ContentSizes:
        """Return what is served and what the packs take. Raises CatalogDamaged."""
        total = self._sums("SELECT count(*), sum(nbytes) FROM inodes WHERE state = 'stored'")
        not_served = self._sums(f"SELECT count(*), sum(nbytes) FROM inodes WHERE state = 'stored' AND {_NOT_SERVED}")
        changing = self._sums(f"SELECT count(*), sum(nbytes) FROM inodes WHERE {_SHOWS_THROUGH}")
        spool = self._sums(
            "SELECT count(*), sum(nbytes) FROM inodes WHERE state IN ('open', 'sealed') AND state = 'sealed'"
        )
        packs = self.packs()
        return ContentSizes(
            files=total[0] - not_served[0] + changing[0],
            raw_nbytes=total[1] - not_served[1] + changing[1],
            packs=len(packs),
            packs_nbytes=sum(packs.values()),
            spool_files=spool[0],
            spool_nbytes=spool[1],
        )

    def store_sizes(self, freeable_nbytes: int) -> StoreSizes:
        """Return all sizes, with what `maintenance.collect.freeable_nbytes` says; to be called in a snapshot. Raises
        CatalogDamaged.
        """
        (used,) = self._sums(f"SELECT sum(stored_nbytes) FROM blobs WHERE id IN {_USED}")
        (kept,) = self._sums(f"SELECT sum(stored_nbytes) FROM blobs WHERE id IN {_BASES_IN_USE} AND id NOT IN {_USED}")
        (all_blobs,) = self._sums("SELECT sum(stored_nbytes) FROM blobs")
        return StoreSizes(self.content_sizes(), used, kept, all_blobs - used - kept, freeable_nbytes)

    def sizes_below(self, directory: InodeId) -> dict[State, FileSizes]:
        """Return the sums over all files below a directory, each file once, by where their content is."""
        return {State(state): FileSizes(*sums) for state, *sums in self._query(_BELOW, (directory,))}

    def added_nbytes(self, inode_ids: Sequence[InodeId]) -> dict[InodeId, int]:
        """Return what each of some stored files added; those that added nothing are left out."""
        rows = self._query(_ADDED, (json.dumps(inode_ids),))
        return {InodeId(inode_id): int(nbytes) for inode_id, nbytes in rows}

    def heirs(self, inode_id: InodeId) -> list[InodeId]:
        """Return the files that blobs of a file will count for once it is gone."""
        return [InodeId(row[0]) for row in self._query(_HEIRS, (inode_id,) * 3) if row[0] is not None]

    def _sums(self, sql: str) -> list[int]:
        return [int(value or 0) for value in self._row(sql) or ()]
