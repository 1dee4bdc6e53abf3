"""What a store holds and takes, each figure defined once: whoever shows one of them takes it from here.

    raw       bytes of the files that are served, each file once whatever the number of its names
    stored    pack files and spool: what all of that takes on disk, but for catalog and manifest log

Of what is in packs, each blob that a file uses counts for the first file (by id) that does: that is what this file
*added*.  The rest of the packs is what removed files have left behind, kept or unused, and the packs' own indices.
Used by the thread whose catalog it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zipfs.store.catalog.queries import Catalog
from zipfs.store.objects.values import InodeId

if TYPE_CHECKING:
    from zipfs.store.catalog.writes import Transaction

_ADDED = (
    "SELECT value, sum(stored_nbytes) FROM json_each(?) CROSS JOIN blobs"
    " ON blobs.id IN (SELECT blob_id FROM extents WHERE inode_id = value) WHERE NOT EXISTS"
    " (SELECT 1 FROM extents WHERE blob_id = blobs.id AND inode_id < value) GROUP BY value"
)
_HEIRS = (
    "SELECT DISTINCT (SELECT min(inode_id) FROM extents WHERE blob_id = own.blob_id AND inode_id > ?1) FROM"
    " (SELECT DISTINCT blob_id FROM extents WHERE inode_id = ?1) AS own WHERE NOT EXISTS"
    " (SELECT 1 FROM extents WHERE blob_id = own.blob_id AND inode_id < ?1)"
)
_USED = "(SELECT blob_id FROM extents)"
_BASES_IN_USE = f"(SELECT base_id FROM blobs WHERE base_id IS NOT NULL AND id IN {_USED})"
# Served at the moment, or waiting to be compressed and served meanwhile. To look for the served name of each stored
# file would take four times as long as to count all of them.
_NOT_SERVED = (
    "id IN (SELECT inode_id FROM entries WHERE area <> 0)"
    " AND NOT EXISTS (SELECT 1 FROM entries WHERE inode_id = id AND area = 0)"
)


@dataclass(frozen=True, slots=True)
class Content:
    """The figures that are told again and again, while a store is being filled: counted in a few milliseconds.

    `files` and `raw_nbytes` are of what is served from packs, `spool_files` and `spool_nbytes` of what is served and
    not compressed yet.
    """

    files: int
    raw_nbytes: int
    packs: int
    packs_nbytes: int
    spool_files: int
    spool_nbytes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a store; sizes in bytes.

    The packs hold what files `added`, `kept` bases whose own files were removed, what is `unused` (neither), and for
    the rest their own indices.  `freeable_nbytes` is what a collection would free now: what is unused stays where most
    of its pack is in use.
    """

    content: Content
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


def count_content(catalog: Catalog) -> Content:
    """Raises CatalogDamaged."""
    total = _sums(catalog, "SELECT count(*), sum(nbytes) FROM inodes WHERE state = 'stored'")
    not_served = _sums(catalog, f"SELECT count(*), sum(nbytes) FROM inodes WHERE state = 'stored' AND {_NOT_SERVED}")
    spool = _sums(
        catalog, "SELECT count(*), sum(nbytes) FROM inodes WHERE state IN ('open', 'sealed') AND state = 'sealed'"
    )
    packs = catalog.packs()
    return Content(
        files=total[0] - not_served[0],
        raw_nbytes=total[1] - not_served[1],
        packs=len(packs),
        packs_nbytes=sum(packs.values()),
        spool_files=spool[0],
        spool_nbytes=spool[1],
    )


def take_figures(catalog: Catalog, freeable_nbytes: int) -> Figures:
    """All of them; to be called in a snapshot, with what `gc.freeable_nbytes` says. Raises CatalogDamaged."""
    (used,) = _sums(catalog, f"SELECT sum(stored_nbytes) FROM blobs WHERE id IN {_USED}")
    (kept,) = _sums(catalog, f"SELECT sum(stored_nbytes) FROM blobs WHERE id IN {_BASES_IN_USE} AND id NOT IN {_USED}")
    (all_blobs,) = _sums(catalog, "SELECT sum(stored_nbytes) FROM blobs")
    return Figures(count_content(catalog), used, kept, all_blobs - used - kept, freeable_nbytes)


def added_nbytes(catalog: Catalog, inode_ids: Sequence[InodeId]) -> dict[InodeId, int]:
    """What each of some stored files added; those that added nothing are left out."""
    rows = catalog.query(_ADDED, (json.dumps(inode_ids),))
    return {InodeId(inode_id): int(nbytes) for inode_id, nbytes in rows}


def heirs(catalog: Catalog, inode_id: InodeId) -> list[InodeId]:
    """The files that blobs of a file will count for once it is gone."""
    return [InodeId(row[0]) for row in catalog.query(_HEIRS, (inode_id,)) if row[0] is not None]


def attribute(txn: Transaction, inode_ids: Sequence[InodeId]) -> None:
    """Have some stored files say what they added, after a change of what others hold or of how blobs are stored."""
    added = added_nbytes(txn.catalog, inode_ids)
    for inode_id in inode_ids:
        if txn.catalog.inode(inode_id).stored_nbytes != added.get(inode_id, 0):
            txn.set_stored_nbytes(inode_id, added.get(inode_id, 0))


def _sums(catalog: Catalog, sql: str) -> list[int]:
    row = catalog.row(sql)
    return [int(value or 0) for value in row or ()]
