"""The served tree: names, attributes, and content that is written in place.

What is removed, moved or written to here takes its lingering entries below `ingest/` with it.
"""

from __future__ import annotations

from zipfs.errors import AlreadyExists, InUse, ReadOnly
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import ROOT, Inode, InodeId, Kind, State
from zipfs.vfs.change import Alteration, Change, alter
from zipfs.vfs.place import Place
from zipfs.vfs.refused_copies import RefusedCopies
from zipfs.vfs.trees import Name, NewInode, RenameFlags


class ServedTree:
    """Changes to the served tree, made inside a transaction of the caller. All raise PathError."""

    def __init__(self, refused_copies: RefusedCopies | None) -> None:
        """Content is written to unless copies are refused: then `refused_copies` knows of them."""
        self._refused_copies = refused_copies

    def check_new(self, name: Name, kind: Kind) -> None:
        """Raise ReadOnly for a file where content is not written to, and remember its directory: it is a copy."""
        if kind is Kind.FILE and self._refused_copies is not None:
            self._refused_copies.refuse(name.parent_id, name.name)
            raise ReadOnly(name.name)

    def check_writable(self, where: Place) -> None:
        """Raise ReadOnly where content is not written to."""
        if self._refused_copies is not None:
            raise ReadOnly(f"inode {where.inode_id}")

    def made(self, inode: Inode) -> None:
        """Remember a directory that was made where copies are refused."""
        if inode.is_directory and self._refused_copies is not None:
            self._refused_copies.made(inode.id)

    def make(self, txn: Transaction, name: Name, new: NewInode) -> Change:
        event = Event.CREATE_SERVED if new.kind is Kind.FILE else Event.MAKE_SERVED
        made = tree.make(txn, name.parent_id, name.name, new.kind, event, new.mode, new.uid, new.gid, new.target)
        return Change(made, written=_open_content(made))

    def link(self, txn: Transaction, inode_id: InodeId, name: Name) -> Change:
        inode = txn.catalog.inode(inode_id)
        tree.link(txn, name.parent_id, name.name, inode, Event.SERVE)
        return Change(inode, written=_open_content(inode), beyond=txn.catalog.has_name_in(inode_id, under_ingest=True))

    def unlink(self, txn: Transaction, name: Name) -> Change:
        tree.forget_lingering(txn, name.parent_id, name.name)
        gone = tree.unlink(txn, name.parent_id, name.name)
        return Change(gone=[] if gone is None else [gone], beyond=True)

    def rmdir(self, txn: Transaction, name: Name) -> Change:
        _check_not_reserved(name)
        tree.rmdir(txn, name.parent_id, name.name)
        tree.forget_lingering_directory(txn, tree.path_of(txn.catalog, name.parent_id) + b"/" + name.name)
        return Change(beyond=True)

    def rename(self, txn: Transaction, old: Name, new: Name, flags: RenameFlags) -> Change:
        _check_not_reserved(old)
        moved = txn.catalog.inode(tree.require(txn.catalog, old.parent_id, old.name).inode_id)
        tree.forget_lingering(txn, old.parent_id, old.name)
        if txn.catalog.entry(new.parent_id, new.name) is not None:
            if flags.no_replace:
                raise AlreadyExists(new.name)
            tree.forget_lingering(txn, new.parent_id, new.name)
        if flags.exchange:
            tree.exchange(txn, old.parent_id, old.name, new.parent_id, new.name)
            return Change(written=_open_content(moved), beyond=True)
        gone = tree.rename(txn, old.parent_id, old.name, new.parent_id, new.name)
        # The record of it first: a power cut leaves the name what it led to before, or what it leads to now.
        return Change(gone=[] if gone is None else [gone], kept_first=[], written=_open_content(moved), beyond=True)

    def alter(self, txn: Transaction, inode_id: InodeId, alteration: Alteration) -> Change:
        altered = alter(txn, inode_id, alteration)
        return Change(
            altered, written=_open_content(altered), beyond=txn.catalog.has_name_in(inode_id, under_ingest=True)
        )


def _open_content(inode: Inode) -> set[InodeId]:
    """Return the inode if its content may still change: it is not quiet."""
    return {inode.id} if inode.state is State.OPEN else set()


def _check_not_reserved(name: Name) -> None:
    """Raise InUse for a name that a mount uses itself."""
    if name.parent_id == ROOT and name.name in tree.RESERVED_AT_ROOT:
        raise InUse(name.name)
