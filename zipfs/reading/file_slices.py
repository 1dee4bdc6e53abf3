"""Divides a file into slices: the parts of it that one frame each holds. Pure and immutable; any thread may use it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from zipfs.codec import FRAME_NBYTES
from zipfs.store.objects.values import BlobId, Extent


class FileSlice(NamedTuple):
    """File bytes [offset, offset + nbytes) are bytes [start, start + nbytes) of decoded frame `frame` of a blob."""

    offset: int
    nbytes: int
    blob_id: BlobId
    frame: int
    start: int


class FileSlices:
    """The slices of a file, numbered in its order. `extents` tile the file and are sorted by offset."""

    def __init__(self, extents: Sequence[Extent]) -> None:
        self._extents = extents
        self._offsets = [extent.offset for extent in extents]
        counts = (_last_frame(extent) - extent.blob_offset // FRAME_NBYTES + 1 for extent in extents)
        self._first_slices = list(accumulate(counts, initial=0))
        self.nbytes = extents[-1].offset + extents[-1].nbytes if extents else 0

    def __len__(self) -> int:
        return self._first_slices[-1]

    def __getitem__(self, number: int) -> FileSlice:
        at = bisect_right(self._first_slices, number) - 1
        extent = self._extents[at]
        frame = extent.blob_offset // FRAME_NBYTES + number - self._first_slices[at]
        begin = max(extent.blob_offset, frame * FRAME_NBYTES)
        end = min(extent.blob_offset + extent.nbytes, (frame + 1) * FRAME_NBYTES)
        offset = extent.offset + begin - extent.blob_offset
        return FileSlice(offset, end - begin, extent.blob_id, frame, begin - frame * FRAME_NBYTES)

    def at(self, offset: int) -> int:
        """Return the number of the slice that holds the byte at `offset` of the file, which has it."""
        at = bisect_right(self._offsets, offset) - 1
        extent = self._extents[at]
        frame = (extent.blob_offset + offset - extent.offset) // FRAME_NBYTES
        return self._first_slices[at] + frame - extent.blob_offset // FRAME_NBYTES

    def extent_at(self, offset: int) -> Extent:
        """Return the extent that holds the byte at `offset` of the file, which has it."""
        return self._extents[bisect_right(self._offsets, offset) - 1]


def _last_frame(extent: Extent) -> int:
    return (extent.blob_offset + extent.nbytes - 1) // FRAME_NBYTES
