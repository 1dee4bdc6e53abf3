"""The ingest tree: names and attributes below `ingest/`.

What is sealed is never written to here: its names below `ingest/` get a new inode first (`writable_files.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from zipfs.errors import AlreadyExists, NotFound
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import ingest_side, interrupted, tree
from zipfs.store.namespace.recent import recent_names
from zipfs.store.objects.values import INGEST_ROOT, Area, Inode, InodeId, Kind
from zipfs.store.store import Store
from zipfs.vfs.change import Alteration, Change, alter
from zipfs.vfs.place import Place
from zipfs.vfs.trees import Name, NewInode, RenameFlags


class IngestTree:
    """Changes below `ingest/`. Those that take a transaction run in one of the caller; all raise PathError."""

    def __init__(self, store: Store, linger_s: float) -> None:
        self._store = store
        self._linger_s = linger_s

    def check_new(self, name: Name, kind: Kind) -> None:
        """Let everything be made."""

    def check_writable(self, where: Place) -> None:
        """Let everything be written to."""

    def made(self, inode: Inode) -> None:
        """Take no notice: `make` says what it has touched."""

    def make(self, txn: Transaction, name: Name, new: NewInode) -> Change:
        inode = ingest_side.create(txn, name.parent_id, name.name, new.kind, new.mode, new.uid, new.gid, new.target)
        return Change(inode, touched={name.parent_id, *([inode.id] if inode.is_directory else [])})

    def link(self, txn: Transaction, inode_id: InodeId, name: Name) -> Change:
        inode = ingest_side.link(txn, txn.catalog.inode(inode_id), name.parent_id, name.name)
        beyond = txn.catalog.has_name_in(inode_id, under_ingest=False)
        return Change(inode, touched={name.parent_id}, beyond=beyond)

    def unlink(self, txn: Transaction, name: Name) -> Change:
        # What is sealed has names in the served tree, where its ctime is seen too.
        beyond = tree.require(txn.catalog, name.parent_id, name.name).area is not Area.PENDING
        gone = ingest_side.unlink(txn, name.parent_id, name.name)
        return Change(gone=[] if gone is None else [gone], touched={name.parent_id}, beyond=beyond)

    def rmdir(self, txn: Transaction, name: Name) -> Change:
        ingest_side.rmdir(txn, name.parent_id, name.name)
        return Change(touched={name.parent_id})

    def rename(self, txn: Transaction, old: Name, new: Name, flags: RenameFlags) -> Change:
        if flags.no_replace and txn.catalog.entry(new.parent_id, new.name) is not None:
            raise AlreadyExists(new.name)
        move = ingest_side.exchange if flags.exchange else ingest_side.rename
        gone = move(txn, old.parent_id, old.name, new.parent_id, new.name)
        touched = {old.parent_id, new.parent_id}
        for name in (old, new):
            touched.update(_directories_at(txn.catalog, name))
        return Change(gone=gone, touched=touched, beyond=True)  # what is served is moved along

    def alter(self, txn: Transaction, inode_id: InodeId, alteration: Alteration) -> Change:
        altered = alter(txn, inode_id, alteration)
        ingest_side.mark_changed(txn, altered)
        touched = txn.catalog.ingest_parents(inode_id) | ({inode_id} if altered.is_directory else set())
        return Change(altered, touched=touched, beyond=txn.catalog.has_name_in(inode_id, under_ingest=False))

    def directories_of(self, inode_id: InodeId) -> set[InodeId]:
        """Return the directories that are not quiet when something happens to an inode."""
        return self._store.catalog.ingest_parents(inode_id)

    def listed(self, changed: Iterable[InodeId], catalog: Catalog) -> set[bytes]:
        """Find the names that a listing of `ingest/` shows; `changed` are directories with changes of late."""
        now_ns = tree.now_ns()
        return recent_names(catalog, changed, now_ns - self._linger_s * 1e9, now_ns)

    def lists_all(self, where: Place) -> bool:
        """Return whether a listing of a directory shows whatever is in it."""
        return where.inode_id != INGEST_ROOT

    def has_notes(self, where: Place) -> bool:
        """Return whether a reason is kept why the model of a file was not sealed."""
        return self._store.catalog.has_failure(where.inode_id)

    def forget_notes(self, txn: Transaction, inode_id: InodeId) -> Change:
        """Drop the reasons that are kept of the model of a file that is about to be written to: they are old."""
        interrupted.forget(txn, inode_id)
        return Change()


def _directories_at(catalog: Catalog, name: Name) -> Iterable[InodeId]:
    """Find the directories at and below a name."""
    try:
        entry = tree.require(catalog, name.parent_id, name.name)
    except NotFound:
        return []
    found = tree.walk(catalog, catalog.inode(entry.inode_id))
    return [inode.id for _, inode in found if inode.is_directory]
