"""Handle numbers, by which the kernel names what is open. Used by the event loop only."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from pyfuse3 import FileHandleT

from zipfs.mount.logs import Log
from zipfs.vfs.open_files import OpenDirectory, OpenFile, OpenFiles


@dataclass(slots=True)
class VirtualDirectory:
    """The directory of what exists in a mount only, being listed."""

    names: list[bytes] = field(default_factory=list)


Listing = OpenDirectory | VirtualDirectory
Readable = OpenFile | Log | bytes


class Handles:
    """Numbers for whatever is open; never used twice."""

    def __init__(self, open_files: OpenFiles) -> None:
        self._next = itertools.count(1)
        self._open: dict[int, Readable | Listing] = {}
        self._open_files = open_files

    def add(self, what: Readable | Listing) -> FileHandleT:
        number = next(self._next)
        self._open[number] = what
        if isinstance(what, OpenFile | OpenDirectory):
            self._open_files.add(what)
        return FileHandleT(number)

    def file(self, number: int) -> Readable:
        found = self._open[number]
        assert not isinstance(found, OpenDirectory | VirtualDirectory)
        return found

    def listing(self, number: int) -> Listing:
        found = self._open[number]
        assert isinstance(found, OpenDirectory | VirtualDirectory)
        return found

    def remove(self, number: int) -> Readable | Listing:
        what = self._open.pop(number)
        if isinstance(what, OpenFile | OpenDirectory):
            self._open_files.remove(what)
        return what

    def __len__(self) -> int:
        return len(self._open)
