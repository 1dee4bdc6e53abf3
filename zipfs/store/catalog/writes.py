"""Owns what one transaction writes to the catalog: its rows, and the record of them for the manifest log.

`transaction.py` begins and commits it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from zipfs.errors import CatalogDamaged, Gone
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.queries import Catalog, Position
from zipfs.store.catalog.statements import insert, upsert
from zipfs.store.objects.columns import BLOBS, ENTRIES, EXTENTS, INODES, PACKS, XATTRS, blob_row, inode_row_sum, row_sum
from zipfs.store.objects.values import (
    Blob,
    BlobId,
    Entry,
    Extent,
    Inode,
    InodeId,
    PackName,
)
from zipfs.store.packs.backend import PackBackend

_BLOBS_OF_A_KEY = 16
_IDS = 10_000
"""Ids in one statement: SQLite takes 32,766 parameters."""


_PUT_INODE = upsert(INODES, "id")
_PUT_ENTRY = insert(ENTRIES, " OR REPLACE")
_PUT_XATTR = insert(XATTRS, " OR REPLACE")
_PUT_EXTENT = insert(EXTENTS)
_PUT_PACK = insert(PACKS, " OR IGNORE")
_FORM = ("base_id", "base_offset", "base_nbytes", "base_cast", "pack_id", "pack_offset", "stored_nbytes", "frames")
"""Of a blob, what may change: how and where it is stored."""
_PUT_BLOB = (
    f"{upsert(BLOBS, 'id', _FORM)} WHERE nbytes = excluded.nbytes AND fingerprint = excluded.fingerprint RETURNING id"
)


class Transaction:
    """Writes and drops rows. Valid inside the block of `transaction` only."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.changes = Changes()
        self.seq = 0
        """Sequence number of the record, once committed; 0 if nothing was changed."""
        self._placed: set[BlobId] = set()
        """Blobs that were put into a pack."""

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        self.catalog._write(sql, parameters)

    # Tree

    def new_inode_id(self) -> InodeId:
        """Hand out an id that no other inode will ever have."""
        return InodeId(self.catalog.next_id("inode"))

    def put_inode(self, inode: Inode) -> None:
        """Insert or replace an inode, and leave its extents and xattrs as they are."""
        row = INODES.row_of(inode)
        self._execute(_PUT_INODE, (*row, inode_row_sum(row)))
        self.changes.inodes[inode.id] = inode

    def set_stored_nbytes(self, inode_id: InodeId, nbytes: int) -> None:
        """Have a file say that it added so many bytes to the packs."""
        self.put_inode(replace(self.catalog.inode(inode_id), stored_nbytes=nbytes))

    def drop_inode(self, inode_id: InodeId) -> None:
        """Drop an inode with its extents, xattrs and failure."""
        self._execute("DELETE FROM inodes WHERE id = ?", (inode_id,))
        self.changes.inodes[inode_id] = None
        self.changes.extents.pop(inode_id, None)
        for key in [key for key in self.changes.xattrs if key[0] == inode_id]:
            del self.changes.xattrs[key]

    def put_entry(self, entry: Entry) -> None:
        """Insert an entry, or replace the one of its name."""
        row = ENTRIES.row_of(entry)
        self._execute(_PUT_ENTRY, (*row, row_sum(row)))
        self.changes.entries[entry.parent_id, entry.name] = entry

    def drop_entry(self, parent_id: InodeId, name: bytes) -> None:
        """Drop a name, and leave the inode that it leads to."""
        self._execute("DELETE FROM entries WHERE parent_id = ? AND name = ?", (parent_id, name))
        self.changes.entries[parent_id, name] = None

    def put_xattr(self, inode_id: InodeId, name: bytes, value: bytes) -> None:
        """Set an attribute or mark. Raises Gone where the inode has no row any more."""
        if self.catalog._row("SELECT 1 FROM inodes WHERE id = ?", (inode_id,)) is None:
            raise Gone(f"inode {inode_id}")
        self._execute(_PUT_XATTR, (inode_id, name, value))
        self.changes.xattrs[inode_id, name] = value

    def drop_xattr(self, inode_id: InodeId, name: bytes) -> None:
        """Drop an attribute or mark."""
        self._execute("DELETE FROM xattrs WHERE inode_id = ? AND name = ?", (inode_id, name))
        self.changes.xattrs[inode_id, name] = None

    def put_extents(self, inode_id: InodeId, extents: Sequence[Extent]) -> None:
        """Replace the extents of a file; the caller puts an inode with the fitting `layout_sum`."""
        self._execute("DELETE FROM extents WHERE inode_id = ?", (inode_id,))
        self.catalog._write_all(_PUT_EXTENT, [(inode_id, *EXTENTS.row_of(extent)) for extent in extents])
        self.changes.extents[inode_id] = tuple(extents)

    def put_failure(self, inode_id: InodeId, message: str, at_ns: int) -> None:
        """Note that a file could not be sealed or compressed. It is news, not state: it is not logged.

        The message may name files in whatever bytes these have.
        """
        self._execute(
            "INSERT INTO failures (inode_id, message, attempts, at_ns) VALUES (?, ?, 1, ?) ON CONFLICT (inode_id)"
            " DO UPDATE SET message = excluded.message, attempts = attempts + 1, at_ns = excluded.at_ns",
            (inode_id, message.encode("utf-8", "backslashreplace").decode(), at_ns),
        )

    def clear_failure(self, inode_id: InodeId) -> None:
        """Forget that a file could not be sealed or compressed."""
        self._execute("DELETE FROM failures WHERE inode_id = ?", (inode_id,))

    # Packs

    def add_pack(self, name: PackName, nbytes: int, blobs: Iterable[Blob]) -> None:
        """Register a pack that is durably on disk. A blob that is known already moves to it, and takes the form that it
        has there. Raises CatalogDamaged if one of its ids is that of another blob.
        """
        self._execute(_PUT_PACK, (name, nbytes))
        row = self.catalog._row("SELECT id FROM packs WHERE name = ?", (name,))
        assert row is not None
        last = 0
        for blob in blobs:
            last = max(last, blob.id)
            self._placed.add(blob.id)
            written = self.catalog._write(_PUT_BLOB, blob_row(blob, row[0]))
            if not written:
                raise CatalogDamaged(f"blob {blob.id} of pack {name.hex()} is another one than that of the catalog")
        self._execute("UPDATE counters SET next = max(next, ?) WHERE name = 'blob'", (last + 1,))
        self.changes.packs[name] = True

    def drop_pack(self, name: PackName) -> None:
        """Forget a pack and whatever blobs are still listed in it, with those coded against them that no file needs."""
        self._execute(
            "DELETE FROM blobs WHERE base_id IN (SELECT id FROM blobs WHERE pack_id ="
            " (SELECT id FROM packs WHERE name = ?)) AND id NOT IN (SELECT blob_id FROM extents)",
            (name,),
        )
        self._execute("DELETE FROM blobs WHERE pack_id = (SELECT id FROM packs WHERE name = ?)", (name,))
        self._execute("DELETE FROM packs WHERE name = ?", (name,))
        self.changes.packs[name] = False

    def check_bases(self) -> None:
        """Check that the bases of what was put into packs, and of what is coded against it, are coded standalone.

        A blob that no file needs is forgotten if its base has become a member: it cannot be decoded in one step any
        more. Raises CatalogDamaged if a file needs such a blob.
        """
        placed = sorted(self._placed)
        for start in range(0, len(placed), _IDS):
            some = placed[start : start + _IDS]
            marks = ", ".join("?" * len(some))
            chains = (
                "SELECT member.id, EXISTS (SELECT 1 FROM extents WHERE blob_id = member.id), base.id FROM blobs AS"
                " member JOIN blobs AS base ON base.id = member.base_id WHERE base.base_id IS NOT NULL AND"
            )
            deep = self.catalog._query(
                f"{chains} member.id IN ({marks}) UNION {chains} base.id IN ({marks})", some + some
            )
            for blob_id, needed, base_id in deep:
                if needed:
                    raise CatalogDamaged(f"blob {blob_id} has base {base_id}, which has a base itself")
                self._execute("DELETE FROM blobs WHERE id = ?", (blob_id,))
        self._placed.clear()

    def drop_undecodable(self) -> None:
        """Forget blobs whose base is gone and that no file needs: an index may list some that were collected."""
        self._execute(
            "DELETE FROM blobs WHERE base_id IS NOT NULL AND base_id NOT IN (SELECT id FROM blobs)"
            " AND id NOT IN (SELECT blob_id FROM extents)"
        )

    def put_signature(self, blob_id: BlobId, signature: bytes) -> None:
        """Keep the signature of a tensor, by which its relatives are found."""
        self._execute("INSERT OR REPLACE INTO signatures (blob_id, signature) VALUES (?, ?)", (blob_id, signature))

    def put_sketch(self, blob_id: BlobId, sketch: bytes) -> None:
        """Keep the sketch of a tensor, from which sizes are predicted."""
        self._execute("INSERT OR REPLACE INTO sketches (blob_id, sketch) VALUES (?, ?)", (blob_id, sketch))

    def put_samples(self, blob_id: BlobId, samples: bytes) -> None:
        """Keep the encoded minhash samples of a blob, by which ranges of it are recognised."""
        self._execute("INSERT OR REPLACE INTO landmarks (blob_id, landmarks) VALUES (?, ?)", (blob_id, samples))

    def drop_samples(self, blob_id: BlobId) -> None:
        """Drop the minhash samples of a blob."""
        self._execute("DELETE FROM landmarks WHERE blob_id = ?", (blob_id,))

    def put_index_keys(self, blob_id: BlobId, keys: Sequence[int]) -> None:
        """Have a blob that is coded standalone be found. A key that _BLOBS_OF_A_KEY blobs have distinguishes none."""
        self.catalog._write_all(
            "INSERT OR IGNORE INTO anchors (hash, blob_id) SELECT ?, ? WHERE"
            " (SELECT count(*) FROM (SELECT 1 FROM anchors WHERE hash = ? LIMIT ?)) < ?",
            [(key, blob_id, key, _BLOBS_OF_A_KEY, _BLOBS_OF_A_KEY) for key in keys],
        )

    def drop_index_keys(self, blob_id: BlobId, keys: Sequence[int]) -> None:
        """Have a blob that has a base now be found no more."""
        self.catalog._write_all("DELETE FROM anchors WHERE hash = ? AND blob_id = ?", [(key, blob_id) for key in keys])

    def _forget_signatures(self, blobs: Sequence[Blob]) -> None:
        """Drop signatures of blobs that become bases or members by being moved: the backfill sets their index keys."""
        for blob in blobs:
            self._execute(
                "DELETE FROM signatures WHERE blob_id = ? AND EXISTS (SELECT 1 FROM blobs WHERE id = ? AND"
                " (base_id IS NULL) <> ?)",
                (blob.id, blob.id, blob.base is None),
            )

    def drop_stale_index_keys(self) -> None:
        """Forget the index keys of blobs that are gone."""
        self._execute("DELETE FROM anchors WHERE blob_id NOT IN (SELECT id FROM blobs)")

    def drop_unreadable(self) -> list[InodeId]:
        """Drop from a catalog that is being made anew what cannot be read; returns the files whose content is lost.

        Dropped are blobs whose base is gone or has become a member, and all extents of a file of which a blob is gone.
        """
        self._execute("DELETE FROM blobs WHERE base_id IN (SELECT id FROM blobs WHERE base_id IS NOT NULL)")
        self._execute("DELETE FROM blobs WHERE base_id IS NOT NULL AND base_id NOT IN (SELECT id FROM blobs)")
        rows = self.catalog._query(
            "SELECT DISTINCT inode_id FROM extents WHERE blob_id NOT IN (SELECT id FROM blobs) ORDER BY inode_id"
        )
        for (inode_id,) in rows:
            self._execute("DELETE FROM extents WHERE inode_id = ?", (inode_id,))
        return [InodeId(row[0]) for row in rows]

    # What files added

    def attribute(self, inode_ids: Sequence[InodeId]) -> None:
        """Have some stored files say what they added, after a change of what others hold or of how blobs are stored."""
        added = self.catalog.added_nbytes(inode_ids)
        for inode_id in inode_ids:
            if self.catalog.inode(inode_id).stored_nbytes != added.get(inode_id, 0):
                self.set_stored_nbytes(inode_id, added.get(inode_id, 0))

    def attribute_all(self) -> None:
        """Have every stored file say what it added, so that `du` adds up."""
        added: dict[int, int] = dict(
            self.catalog._query(
                "SELECT owner, sum(stored_nbytes) FROM"
                " (SELECT blob_id, min(inode_id) AS owner FROM extents GROUP BY blob_id)"
                " JOIN blobs ON blobs.id = blob_id GROUP BY owner"
            )
        )
        for inode_id, nbytes in self.catalog._query("SELECT id, stored_nbytes FROM inodes WHERE kind = 'file'"):
            if added.get(inode_id, 0) != nbytes:
                self.set_stored_nbytes(InodeId(inode_id), added.get(inode_id, 0))

    # The log

    def set_position(self, position: Position) -> None:
        """Note how far into the log the catalog has come."""
        self._execute("UPDATE position SET segment = ?, offset = ?, seq = ?", position)

    def apply(self, changes: Changes, packs: PackBackend) -> None:
        """Write the rows of a logged record. What it says of packs that are gone by now is passed over."""
        for inode_id, inode in changes.inodes.items():
            if inode is not None:
                self.put_inode(inode)
            self._execute("UPDATE counters SET next = max(next, ?) WHERE name = 'inode'", (inode_id + 1,))
        for name, added in changes.packs.items():
            if added and packs.exists(name):
                file = packs.open(name)
                blobs = [packed.blob for packed in file.index()]
                self._forget_signatures(blobs)
                self.add_pack(name, file.nbytes, blobs)
        for (parent_id, entry_name), entry in changes.entries.items():
            if entry is None:
                self.drop_entry(parent_id, entry_name)
            else:
                self.put_entry(entry)
        for (inode_id, xattr), value in changes.xattrs.items():
            if value is None:
                self.drop_xattr(inode_id, xattr)
            else:
                self.put_xattr(inode_id, xattr, value)
        for inode_id, extents in changes.extents.items():
            self.put_extents(inode_id, extents)
        for inode_id, inode in changes.inodes.items():
            if inode is None:
                self.drop_inode(inode_id)
        for name, added in changes.packs.items():
            if not added:
                self.drop_pack(name)
        for counter, taken in (("inode", changes.next_inode), ("blob", changes.next_blob)):
            self._execute("UPDATE counters SET next = max(next, ?) WHERE name = ?", (taken, counter))
