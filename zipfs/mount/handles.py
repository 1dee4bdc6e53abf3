"""Open files and directories of a mount, by handle number. Used by the event loop only."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from pyfuse3 import FileHandleT, InodeT

from zipfs.mount.logs import Log
from zipfs.mount.numbers import Place
from zipfs.reading.content import Content
from zipfs.store.objects.values import Inode, InodeId


@dataclass(slots=True)
class FileHandle:
    """`content` reads. That of a handle to the spool (`spooled`) counts there until it is closed."""

    where: Place
    inode: Inode
    """As it was when it was opened."""
    content: Content
    pid: int
    """The thread that opened it."""
    spooled: bool
    writing: bool


@dataclass(slots=True)
class Listing:
    """An open directory, and the names that it held when reading last began at its start: who adds one for each that is
    read still comes to an end.
    """

    directory: InodeT
    inode: Inode | None
    """As it was when it was opened; None for what exists in a mount only."""
    names: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Unlinked:
    """What no name leads to any more, while somebody has it open: what is changed of it is kept here."""

    inode: Inode
    xattrs: dict[bytes, bytes]


class Handles:
    """Numbers for whatever is open; never used twice."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._open: dict[int, FileHandle | Listing | Log | bytes] = {}
        self._users: Counter[InodeId] = Counter()
        """How many handles an inode has."""
        self._unlinked: dict[InodeId, Unlinked] = {}

    def add(self, what: FileHandle | Listing | Log | bytes) -> FileHandleT:
        number = next(self._next)
        self._open[number] = what
        if (inode := _inode(what)) is not None:
            self._users[inode.id] += 1
        return FileHandleT(number)

    def file(self, number: int) -> FileHandle | Log | bytes:
        found = self._open[number]
        assert not isinstance(found, Listing)
        return found

    def listing(self, number: int) -> Listing:
        found = self._open[number]
        assert isinstance(found, Listing)
        return found

    def remove(self, number: int) -> FileHandle | Listing | Log | bytes:
        what = self._open.pop(number)
        if (inode := _inode(what)) is not None:
            self._users[inode.id] -= 1
            if not self._users[inode.id]:
                del self._users[inode.id]
                self._unlinked.pop(inode.id, None)
        return what

    def of_inode(self, inode_id: InodeId) -> list[FileHandle]:
        if inode_id not in self._users:
            return []
        return [
            handle for handle in self._open.values() if isinstance(handle, FileHandle) and handle.inode.id == inode_id
        ]

    def writers(self) -> list[FileHandle]:
        """Handles that may write."""
        return [handle for handle in self._open.values() if isinstance(handle, FileHandle) and handle.writing]

    def is_open(self, inode_id: InodeId) -> bool:
        return inode_id in self._users

    def keep(self, inode: Inode, xattrs: dict[bytes, bytes]) -> None:
        """Remember what is about to lose its last name, as long as somebody has it open."""
        if inode.id in self._users:
            self._unlinked[inode.id] = Unlinked(inode, xattrs)

    def unlinked(self, inode_id: InodeId) -> Unlinked | None:
        """Of an inode that has no row any more: what is kept of it, or what it was when it was opened."""
        if inode_id not in self._users:
            return None
        if inode_id not in self._unlinked:
            inode = next(inode for what in self._open.values() if (inode := _inode(what)) and inode.id == inode_id)
            self._unlinked[inode_id] = Unlinked(inode, {})
        return self._unlinked[inode_id]

    def files(self) -> int:
        """How many files are open: no directories, nothing below `.zipfs`."""
        return sum(isinstance(found, FileHandle) for found in self._open.values())

    def __len__(self) -> int:
        return len(self._open)


def _inode(what: FileHandle | Listing | Log | bytes) -> Inode | None:
    return None if isinstance(what, bytes | Log) else what.inode
