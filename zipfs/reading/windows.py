"""Records of the files that somebody reads, and of windows of their bytes.

Plain records: `reader.Reader` changes them under its lock. Only `Countdown` takes care of itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Final

from zipfs.reading.file_slices import FileSlices
from zipfs.reading.readahead import AccessOrder, Readahead
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import BlobId, InodeId

_AGAIN_NBYTES: Final = 4 << 20
"""The page cache lets single pages go at any time; a reader that has lost so much begins anew."""


FileKey = tuple[InodeId, int]
"""An inode, and which version of its content."""


class OpenFile:
    """A file that somebody reads, its packs open."""

    def __init__(self, key: FileKey, slices: FileSlices, blobs: Mapping[BlobId, OpenBlob], order: AccessOrder) -> None:
        self.key = key
        self.slices = slices
        self.blobs = blobs
        self.readahead = Readahead(self.slices, order)
        self.windows: dict[int, Window] = {}
        """By the number of each slice that they hold."""
        self.apart: set[int] = set()
        """Numbers of slices that failed, alone or with neighbours: each gets a window of its own when it is wanted."""
        self._answered: dict[int, int] = {}
        """By number, how many bytes of a slice were asked for."""
        self._asked_again_nbytes = 0
        self.users = 0

    def note_answer(self, offset: int, nbytes: int) -> None:
        """Note that a range was asked for. Who asks for much again has not kept it: nothing is taken for kept then."""
        end = min(offset + nbytes, self.slices.nbytes)
        number = self.slices.at(offset)
        if self.is_kept(number) and self.is_kept(self.slices.at(end - 1)):
            self._asked_again_nbytes += end - offset
            if self._asked_again_nbytes >= _AGAIN_NBYTES:
                self._answered.clear()
                self._asked_again_nbytes = 0
        while offset < end:
            file_slice = self.slices[number]
            stop = min(file_slice.offset + file_slice.nbytes, end)
            self._answered[number] = self._answered.get(number, 0) + stop - offset
            offset, number = stop, number + 1

    def is_kept(self, number: int) -> bool:
        """Return whether all of a slice was asked for: the page cache has it, and it will not be asked for again."""
        return self._answered.get(number, 0) >= self.slices[number].nbytes


@dataclass(eq=False, slots=True)
class Window:
    """FileSlices [first, stop) of a file, which are its bytes [offset, offset + nbytes)."""

    file: OpenFile
    first: int
    stop: int
    offset: int
    nbytes: int
    ahead: bool
    """Decoded before anybody asked, and not asked for yet."""
    claimed: bool = False
    read_nbytes: int = 0
    content: memoryview | None = None
    error: BaseException | None = None
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """Called when either is there."""

    def view(self) -> memoryview:
        """Return the bytes, which are there, or raise what kept them from being decoded."""
        if self.error is not None:
            raise copy(self.error)  # each raising notes where it was, and would refer to this window in its own error
        assert self.content is not None
        return self.content

    @property
    def finished(self) -> bool:
        return self.content is not None or self.error is not None


class Countdown:
    """Calls something at the last of so many steps, which may come from any threads."""

    def __init__(self, steps: int, call: Callable[[], None]) -> None:
        self._left = itertools.count(steps - 1, -1)
        self._call = call

    def step(self) -> None:
        if next(self._left) == 0:
            self._call()
