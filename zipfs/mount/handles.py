"""Open files and directories of a mount, by handle number. Used by the event loop only."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from pyfuse3 import FileHandleT, InodeT

from zipfs.mount.numbers import Place
from zipfs.serve.content import Content
from zipfs.store.rows import Inode


@dataclass(slots=True)
class FileHandle:
    """`content` reads. A handle to the spool (`spooled`) counts there until its release, as a writer if `writing`."""

    where: Place
    inode: Inode
    """As it was when it was opened, or when its last name was removed here."""
    content: Content
    pid: int
    """The thread that opened it."""
    spooled: bool
    writing: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """The names that a directory held when it was opened: who adds one for each that is read still comes to an end."""

    directory: InodeT
    names: list[bytes]


class Handles:
    """Numbers for whatever is open; never used twice."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._open: dict[int, FileHandle | Listing | bytes] = {}

    def add(self, what: FileHandle | Listing | bytes) -> FileHandleT:
        number = next(self._next)
        self._open[number] = what
        return FileHandleT(number)

    def file(self, number: int) -> FileHandle | bytes:
        found = self._open[number]
        assert not isinstance(found, Listing)
        return found

    def listing(self, number: int) -> Listing:
        found = self._open[number]
        assert isinstance(found, Listing)
        return found

    def remove(self, number: int) -> FileHandle | Listing | bytes:
        return self._open.pop(number)

    def of_inode(self, where: Place) -> list[FileHandle]:
        return [
            handle
            for handle in self._open.values()
            if isinstance(handle, FileHandle) and handle.where.inode_id == where.inode_id
        ]

    def writers(self) -> list[FileHandle]:
        """Handles that may write."""
        return [handle for handle in self._open.values() if isinstance(handle, FileHandle) and handle.writing]

    def files(self) -> int:
        """How many files are open: no directories, nothing below `.zipfs`."""
        return sum(isinstance(found, FileHandle) for found in self._open.values())

    def __len__(self) -> int:
        return len(self._open)
