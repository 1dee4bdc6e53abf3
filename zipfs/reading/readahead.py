"""Guesses where a file is being read, and what will be asked for next. Pure but for its memory.

Several readers may go through one file, on one descriptor or many. Each is a stream: a position that moves on with the
requests. Loaders go from tensor to tensor, not always in the order of the file; which one came after which is
remembered, and files of the same layout (the fine-tunes of one model) share that memory. One thread at a time may call.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from zipfs.reading.file_slices import FileSlices

_STREAMS: Final = 64
_PAGE_NBYTES: Final = 4096
_BEHIND_NBYTES: Final = 2 << 20
_BEYOND_NBYTES: Final = 4 << 20
"""The kernel splits what it reads ahead into requests that need not come in order."""

_LARGE_NBYTES: Final = 128 << 10
_GROWTH: Final = 4
"""A stream is followed ahead by so many times what was read of it, up to the limit."""

_ENDED: Final = 16
"""A stream is expected to end where one of so many others of its file did: loaders that map a file touch the beginning
of each tensor before they read any."""

_ENDS_NBYTES: Final = 1 << 20
"""Ends are only told apart by so much."""

_SHORT_NBYTES: Final = 8 << 20
"""What ended before counts as ended here: the kernel asks for so much around a touch."""

_SPARSE: Final = 16
"""Where less than one byte in so many was read, requests only lie near each other by chance: a quarter of small random
reads in a GiB do."""

_STEPS: Final = 256

_ALONE: Final = 8
"""After so many requests in a row a stream is what one reader does, and another stream that then goes on is the same
reader, come back: loaders read layer.1, layer.10, layer.11 and then layer.2, which follows layer.1 in the file."""


@dataclass(slots=True)
class _Stream:
    begin: int
    position: int
    seen_nbytes: int
    resumed: bool = False
    """Others were read meanwhile: its reader came back for the rest, or is one of several."""

    @property
    def passed_nbytes(self) -> int:
        return self.position - self.begin


AccessOrder = dict[int, tuple[int, int]]
"""Where a tensor begins -> how far it was read, and where its reader went from there."""


class Readahead:
    """The streams of one file. Positions and sizes in bytes."""

    def __init__(self, slices: FileSlices, order: AccessOrder) -> None:
        self._cells = slices
        self._order = order
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        self._next_key = 0
        self._latest: _Stream | None = None
        self._in_a_row = 0
        """Requests of the latest stream with none of others between them."""
        self._ended: deque[int] = deque(maxlen=_ENDED)
        """How far the last streams had come when the next one began."""
        self.goes_on = False
        """Whether the latest stream is likely to go on beyond what `observe` said of it."""

    def __len__(self) -> int:
        return len(self._streams)

    def observe(self, offset: int, nbytes: int, at_most: int) -> list[tuple[int, int]]:
        """Note a request; return ranges [begin, end) that are likely next, nearest first, at most `at_most` bytes."""
        end = min(offset + nbytes, self._cells.nbytes)
        if end <= offset:
            return []
        stream = self._find(offset)
        comes_back = stream is None or (stream is not self._latest and self._in_a_row >= _ALONE)
        if comes_back:
            self._learn(offset, known=stream is not None)
        if stream is None:
            stream = self._begin(offset)
        elif stream is not self._latest:
            stream.resumed = True
        if end > stream.position:
            self._forget_passed(stream.position if comes_back else stream.position - 1, end)
            stream.position = end
        stream.seen_nbytes += end - offset
        self._in_a_row = self._in_a_row + 1 if stream is self._latest else 1
        self._latest = stream
        if stream.passed_nbytes <= _LARGE_NBYTES and not self._begins_tensor(stream.begin):
            return []  # one small read tells nothing
        if stream.passed_nbytes > _SPARSE * stream.seen_nbytes:
            return []
        wanted = min(at_most, _GROWTH * stream.seen_nbytes)
        left_nbytes = self._left_nbytes(stream)
        self.goes_on = left_nbytes is None
        return self._ahead(stream.position, wanted if left_nbytes is None else min(wanted, left_nbytes))

    def _left_nbytes(self, stream: _Stream) -> int | None:
        """Return how far a stream goes on if it ends where one of the last did; None if nothing says that it will."""
        extent = self._cells.extent_at(stream.position - 1)
        if stream.resumed or extent.offset in self._order:
            return None
        further = [nbytes for nbytes in self._ended if nbytes >= stream.passed_nbytes]
        return min(further) - stream.passed_nbytes if further else None

    def _find(self, offset: int) -> _Stream | None:
        for key in reversed(self._streams):
            stream = self._streams[key]
            nearest = max(stream.begin, stream.position - _BEHIND_NBYTES)
            if nearest <= offset <= stream.position + _BEYOND_NBYTES:
                self._streams.move_to_end(key)
                return stream
        return None

    def _begin(self, offset: int) -> _Stream:
        if self._latest is not None:
            self._ended.append(max(_SHORT_NBYTES, -(-self._latest.passed_nbytes // _ENDS_NBYTES) * _ENDS_NBYTES))
        stream = _Stream(offset, offset, 0)
        self._streams[self._next_key] = stream
        self._next_key += 1
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        return stream

    def _learn(self, offset: int, *, known: bool) -> None:
        """Note that the reader of the latest stream may have left it for `offset`, which is in a `known` stream or not.

        It does so where a tensor ends, or somewhat later, as far as the kernel reads ahead.
        """
        if self._latest is None:
            return
        stop = self._latest.position
        left = self._cells.extent_at(stop - 1)
        at_border = stop == left.offset + left.nbytes or stop - left.offset <= _BEYOND_NBYTES
        if at_border if known else self._begins_tensor(offset):
            self._order[left.offset] = (stop, offset)

    def _begins_tensor(self, offset: int) -> bool:
        """Return whether a tensor, or something else that is stored on its own, begins in the page at `offset`."""
        last = min(offset + _PAGE_NBYTES, self._cells.nbytes) - 1
        return self._cells.extent_at(last).offset >= offset

    def _forget_passed(self, begin: int, end: int) -> None:
        """Forget turns that a reader has passed: it went on where another had left, and so may the next."""
        at = max(begin, 0)
        for _ in range(_STEPS):
            if at >= end or not self._order:
                return
            extent = self._cells.extent_at(at)
            turn = self._order.get(extent.offset)
            if turn is not None and begin < turn[0] < end:
                del self._order[extent.offset]
            at = extent.offset + extent.nbytes

    def _ahead(self, position: int, nbytes: int) -> list[tuple[int, int]]:
        ranges: list[tuple[int, int]] = []
        for _ in range(_STEPS):
            if nbytes <= 0 or position >= self._cells.nbytes:
                break
            extent = self._cells.extent_at(position)
            stop, goes_on = self._order.get(extent.offset, (0, 0))
            if position >= stop:
                stop = goes_on = extent.offset + extent.nbytes
            end = min(stop, position + nbytes)
            if ranges and ranges[-1][1] == position:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((position, end))
            nbytes -= end - position
            position = goes_on
        return ranges
