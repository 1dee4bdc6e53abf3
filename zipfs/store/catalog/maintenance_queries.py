"""Owns the queries of checking, collecting and mending a store: rows of every kind, and what refers to what.

Used by the thread whose catalog it is; several answers are of one moment only in a snapshot.
"""

from __future__ import annotations

from typing import NamedTuple

from zipfs.errors import CatalogDamaged
from zipfs.store.catalog.blob_queries import BlobQueries
from zipfs.store.objects.values import BlobId, InodeId, PackName


class MissingReference(NamedTuple):
    """Row `row_id` of `table` refers to a row of `parent` that is not there."""

    table: str
    row_id: int | None
    parent: str


class MaintenanceQueries(BlobQueries):
    """The part of a `Catalog` that looks after the store as a whole."""

    def integrity_errors(self) -> list[str]:
        """Return what SQLite finds wrong with the file. Raises CatalogDamaged for what is no database."""
        return [str(row[0]) for row in self._query("PRAGMA integrity_check") if row[0] != "ok"]

    def missing_references(self) -> list[MissingReference]:
        """Return the rows that refer to rows which are not there."""
        return [MissingReference(*row[:3]) for row in self._query("PRAGMA foreign_key_check")]

    def inode_ids(self) -> list[InodeId]:
        """Return the ids of all inodes, in order."""
        return [InodeId(row[0]) for row in self._query("SELECT id FROM inodes ORDER BY id")]

    def file_count(self) -> int:
        """Return how many files there are, wherever their content is."""
        return int(self._query("SELECT count(*) FROM inodes WHERE kind = 'file'")[0][0])

    def blob_ids(self) -> list[BlobId]:
        """Return the ids of all blobs."""
        return [BlobId(row[0]) for row in self._query("SELECT id FROM blobs")]

    def blob_ids_in(self, pack: PackName) -> list[BlobId]:
        """Return the ids of the blobs in a pack, in the order in which they lie there."""
        rows = self._query(
            "SELECT blobs.id FROM blobs JOIN packs ON packs.id = pack_id WHERE packs.name = ? ORDER BY pack_offset",
            (pack,),
        )
        return [BlobId(row[0]) for row in rows]

    def blob_sizes(self) -> dict[BlobId, int]:
        """Return the length in bytes of every blob whose row has one."""
        return dict(self._query("SELECT id, nbytes FROM blobs WHERE typeof(nbytes) = 'integer'"))

    def blob_identity(self, blob_id: BlobId) -> tuple[bytes, int] | None:
        """Return (fingerprint, length) of a blob, None if there is none with this id."""
        row = self._row("SELECT fingerprint, nbytes FROM blobs WHERE id = ?", (blob_id,))
        return None if row is None else (row[0], row[1])

    def live_blob_ids(self) -> set[BlobId]:
        """Return the blobs that files hold, and the bases of these."""
        rows = self._query(
            "SELECT blob_id FROM extents UNION SELECT base_id FROM blobs WHERE base_id IS NOT NULL"
            " AND id IN (SELECT blob_id FROM extents)"
        )
        return {BlobId(row[0]) for row in rows}

    def blobs_by_pack(self) -> dict[PackName, list[tuple[BlobId, int]]]:
        """Return (blob, stored bytes) of every pack in the catalog. Raises CatalogDamaged."""
        found: dict[PackName, list[tuple[BlobId, int]]] = {name: [] for name in self.packs()}
        rows = self._query("SELECT packs.name, blobs.id, stored_nbytes FROM blobs JOIN packs ON packs.id = pack_id")
        for name, blob_id, nbytes in rows:
            if not isinstance(nbytes, int):
                raise CatalogDamaged(f"row of blob {blob_id} contradicts itself")
            found[PackName(name)].append((BlobId(blob_id), nbytes))
        return found

    def blob_counts(self) -> dict[PackName, int]:
        """Return how many blobs are in each pack that holds any."""
        return dict(
            self._query("SELECT packs.name, count(*) FROM blobs JOIN packs ON packs.id = pack_id GROUP BY pack_id")
        )
