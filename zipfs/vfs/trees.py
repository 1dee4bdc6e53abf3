"""What both trees of a mount can do, and which of them a request is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zipfs.errors import CrossesTrees
from zipfs.store.catalog.writes import Transaction
from zipfs.store.objects.values import Inode, InodeId, Kind
from zipfs.vfs.change import Alteration, Change
from zipfs.vfs.place import Place


@dataclass(frozen=True, slots=True)
class NewInode:
    """What is to be made, and for whom; the umask is taken off `mode` already."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    target: bytes | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a directory."""

    parent_id: InodeId
    name: bytes


@dataclass(frozen=True, slots=True)
class RenameFlags:
    """How rename(2) treats a name that is taken."""

    exchange: bool = False
    no_replace: bool = False


class Tree(Protocol):
    """Changes to names and attributes, made inside a transaction of the caller. All raise PathError."""

    def check_new(self, name: Name, kind: Kind) -> None:
        """Raise ReadOnly for what cannot be made in this tree. Called before the transaction."""

    def check_writable(self, where: Place) -> None:
        """Raise ReadOnly where content of this tree is not written to."""

    def made(self, inode: Inode) -> None:
        """Take notice of what was made. Called after the transaction."""

    def make(self, txn: Transaction, name: Name, new: NewInode) -> Change: ...

    def link(self, txn: Transaction, inode_id: InodeId, name: Name) -> Change: ...

    def unlink(self, txn: Transaction, name: Name) -> Change: ...

    def rmdir(self, txn: Transaction, name: Name) -> Change: ...

    def rename(self, txn: Transaction, old: Name, new: Name, flags: RenameFlags) -> Change: ...

    def alter(self, txn: Transaction, inode_id: InodeId, alteration: Alteration) -> Change: ...


def same_tree(one: Place, other: Place) -> None:
    """Raise CrossesTrees for what would lead from one tree to the other."""
    if one.under_ingest != other.under_ingest:
        raise CrossesTrees(f"inode {one.inode_id}")
