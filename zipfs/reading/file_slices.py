"""Divides a file into slices: the parts of it that one frame each holds. Pure and immutable; any thread may use it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from zipfs.store.objects.values import BlobId, Extent


class FileSlice(NamedTuple):
    """File bytes [offset, offset + nbytes) are bytes [start, start + nbytes) of decoded frame `frame` of a blob."""

    offset: int
    nbytes: int
    blob_id: BlobId
    frame: int
    start: int


class FileSlices:
    """The slices of a file, numbered in its order. `extents` tile the file and are sorted by offset; the frames of the
    blob of each begin at multiples of what `steps` has for it.
    """

    def __init__(self, extents: Sequence[Extent], steps: Sequence[int]) -> None:
        self._extents = extents
        self._steps = steps
        self._offsets = [extent.offset for extent in extents]
        self._first_slices = [0]
        self._shifts: list[int] = []
        """What the number of a slice is more than that of its frame, in each extent."""
        number = 0
        for extent, step in zip(extents, steps, strict=True):
            self._shifts.append(number - extent.blob_offset // step)
            number = self._shifts[-1] + (extent.blob_offset + extent.nbytes - 1) // step + 1
            self._first_slices.append(number)
        self.nbytes = extents[-1].offset + extents[-1].nbytes if extents else 0

    def __len__(self) -> int:
        return self._first_slices[-1]

    def __getitem__(self, number: int) -> FileSlice:
        at = bisect_right(self._first_slices, number) - 1
        extent, step = self._extents[at], self._steps[at]
        frame = number - self._shifts[at]
        begin = max(extent.blob_offset, frame * step)
        end = min(extent.blob_offset + extent.nbytes, (frame + 1) * step)
        offset = extent.offset + begin - extent.blob_offset
        return FileSlice(offset, end - begin, extent.blob_id, frame, begin - frame * step)

    def at(self, offset: int) -> int:
        """Return the number of the slice that holds the byte at `offset` of the file, which has it."""
        at = bisect_right(self._offsets, offset) - 1
        extent = self._extents[at]
        return self._shifts[at] + (extent.blob_offset + offset - extent.offset) // self._steps[at]

    def extent_at(self, offset: int) -> Extent:
        """Return the extent that holds the byte at `offset` of the file, which has it."""
        return self._extents[bisect_right(self._offsets, offset) - 1]
