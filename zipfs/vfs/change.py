"""What a change to one of the trees has brought about, and the changes that both trees take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from zipfs.errors import Forbidden, NoAttribute, NotSupported
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.objects.values import Inode, InodeId
from zipfs.vfs.open_files import Unlinked

COMPUTED_PREFIX = b"user.zipfs."
"""Of the extended attributes that a mount makes up."""
_USER_PREFIX = b"user."


@dataclass(slots=True)
class Change:
    """What a change has brought about."""

    inode: Inode | None = None
    """What was made or changed."""
    gone: list[Inode] = field(default_factory=list)
    """What has lost its last name, or has its content elsewhere now: its spool file goes with it."""
    kept_first: list[Inode] | None = None
    """What takes the place of `gone`, if anything does: it is on the disk before their raw content goes."""
    touched: set[InodeId] = field(default_factory=set)
    """Directories below `ingest/` that are not quiet because of it."""
    written: set[InodeId] = field(default_factory=set)
    """Files of the served tree that are not quiet because of it, if they are open content."""
    beyond: bool = False
    """Whether it may reach names or attributes that the request does not name, such as those in the other tree."""


class Alteration(Protocol):
    """A change of attributes."""

    def alter(self, txn: Transaction, inode: Inode) -> Inode:
        """Return the inode as it is to be; what its row does not hold is written."""

    def keep(self, unlinked: Unlinked) -> None:
        """Change what is kept of an inode that has no row any more."""


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """What chmod(2), chown(2) and utimensat(2) change; None stays."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    clearing: int = 0
    """Bits that the mode loses."""

    def __bool__(self) -> bool:
        return self != SetAttributes()

    def _of(self, inode: Inode) -> Inode:
        return replace(
            inode,
            mode=(inode.mode if self.mode is None else self.mode & 0o7777) & ~self.clearing,
            uid=inode.uid if self.uid is None else self.uid,
            gid=inode.gid if self.gid is None else self.gid,
            mtime_ns=inode.mtime_ns if self.mtime_ns is None else self.mtime_ns,
            atime_ns=inode.atime_ns if self.atime_ns is None else self.atime_ns,
        )

    def alter(self, txn: Transaction, inode: Inode) -> Inode:
        return self._of(inode)

    def keep(self, unlinked: Unlinked) -> None:
        unlinked.inode = self._of(unlinked.inode)


@dataclass(frozen=True, slots=True)
class PutXattr:
    """Set an extended attribute. Raises Forbidden for one that a mount makes up, NotSupported for one of the system.

    Capabilities, ACLs and labels mean nothing here, and kept without effect they would mislead.
    """

    name: bytes
    value: bytes

    def __post_init__(self) -> None:
        if self.name.startswith(COMPUTED_PREFIX):
            raise Forbidden(self.name, "is made up by ZipFS")
        if not self.name.startswith(_USER_PREFIX):
            raise NotSupported(self.name, "only extended attributes of users are kept")

    def alter(self, txn: Transaction, inode: Inode) -> Inode:
        txn.put_xattr(inode.id, self.name, self.value)
        return inode

    def keep(self, unlinked: Unlinked) -> None:
        unlinked.xattrs[self.name] = self.value


@dataclass(frozen=True, slots=True)
class DropXattr:
    """Remove an extended attribute. Raises NoAttribute."""

    name: bytes

    def alter(self, txn: Transaction, inode: Inode) -> Inode:
        if self.name not in txn.catalog.xattrs(inode.id):
            raise NoAttribute(f"inode {inode.id}", self.name)
        txn.drop_xattr(inode.id, self.name)
        return inode

    def keep(self, unlinked: Unlinked) -> None:
        if unlinked.xattrs.pop(self.name, None) is None:
            raise NoAttribute(f"inode {unlinked.inode.id}", self.name)


def alter(txn: Transaction, inode_id: InodeId, alteration: Alteration) -> Inode:
    """Change attributes of an inode, which moves its ctime. Raises NotFound for one that is gone."""
    altered = replace(alteration.alter(txn, txn.catalog.inode(inode_id)), ctime_ns=tree.now_ns())
    txn.put_inode(altered)
    return altered


def keep(unlinked: Unlinked, alteration: Alteration) -> None:
    """Change attributes of what is open and has no name any more."""
    alteration.keep(unlinked)
    unlinked.inode = replace(unlinked.inode, ctime_ns=tree.now_ns())
