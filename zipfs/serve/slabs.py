"""What is kept of the files that somebody reads: the files, and slabs of their bytes.

Plain records: `reader.Reader` changes them under its lock. Only `Countdown` takes care of itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from zipfs.serve.plan import PAGE_NBYTES, Cells
from zipfs.serve.streams import Order, Streams
from zipfs.store.blobs import OpenBlob
from zipfs.store.rows import BlobId, Extent, InodeId


class OpenFile:
    """A file that somebody reads, its packs open."""

    def __init__(
        self, inode_id: InodeId, extents: Sequence[Extent], blobs: dict[BlobId, OpenBlob], order: Order
    ) -> None:
        self.inode_id = inode_id
        self.cells = Cells(extents)
        self.blobs = blobs
        self.streams = Streams(self.cells, order)
        self.slabs: dict[int, Slab] = {}
        """By the number of each cell that they hold."""
        self.apart: set[int] = set()
        """Numbers of cells that failed, alone or with neighbours: each gets a slab of its own when it is wanted."""
        self.users = 0


@dataclass(eq=False, slots=True)
class Slab:
    """Cells [first, stop) of a file, which are its bytes [offset, offset + nbytes)."""

    file: OpenFile
    first: int
    stop: int
    offset: int
    nbytes: int
    ahead: bool
    """Decoded before anybody asked, and not asked for yet."""
    claimed: bool = False
    asked_end: int = 0
    """Where in the file the furthest request for a part of it ended."""
    pushed_nbytes: int = 0
    read_nbytes: int = 0
    """Asked for or pushed."""
    content: memoryview | None = None
    error: BaseException | None = None
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """Called when either is there."""

    def view(self) -> memoryview:
        """The bytes, which are there; or raises what kept them from being decoded."""
        if self.error is not None:
            raise copy(self.error)  # each raising notes where it was, and would refer to this slab in its own error
        assert self.content is not None
        return self.content

    def pages_to_push(self) -> tuple[int, int]:
        """The range of the file, in whole pages, that the kernel may be given unasked.

        Nothing that was asked for: the kernel waits for its answer. And never the last page, which is shared with the
        next slab or is the end of the file: that it is asked for tells how far the reader has come.
        """
        begin = -(-max(self.offset, self.asked_end) // PAGE_NBYTES) * PAGE_NBYTES
        return begin, (self.offset + self.nbytes - 1) // PAGE_NBYTES * PAGE_NBYTES

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
