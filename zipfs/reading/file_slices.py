"""Divides a file into slices: the parts of it that one frame each holds. Pure and immutable; any thread may use it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
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
        counts = (_count(extent, step) for extent, step in zip(extents, steps, strict=True))
        self._first_slices = list(accumulate(counts, initial=0))
        self.nbytes = extents[-1].offset + extents[-1].nbytes if extents else 0

    def __len__(self) -> int:
        return self._first_slices[-1]

    def __getitem__(self, number: int) -> FileSlice:
        at = bisect_right(self._first_slices, number) - 1
        extent, step = self._extents[at], self._steps[at]
        frame = extent.blob_offset // step + number - self._first_slices[at]
        begin = max(extent.blob_offset, frame * step)
        end = min(extent.blob_offset + extent.nbytes, (frame + 1) * step)
        offset = extent.offset + begin - extent.blob_offset
        return FileSlice(offset, end - begin, extent.blob_id, frame, begin - frame * step)

    def at(self, offset: int) -> int:
        """Return the number of the slice that holds the byte at `offset` of the file, which has it."""
        at = bisect_right(self._offsets, offset) - 1
        extent, step = self._extents[at], self._steps[at]
        frame = (extent.blob_offset + offset - extent.offset) // step
        return self._first_slices[at] + frame - extent.blob_offset // step

    def extent_at(self, offset: int) -> Extent:
        """Return the extent that holds the byte at `offset` of the file, which has it."""
        return self._extents[bisect_right(self._offsets, offset) - 1]


def _count(extent: Extent, step: int) -> int:
    return (extent.blob_offset + extent.nbytes - 1) // step - extent.blob_offset // step + 1
