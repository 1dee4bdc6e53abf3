"""A file as cells: the parts of it that one frame each holds. Pure and immutable; any thread may use it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from zipfs.codec import FRAME_NBYTES
from zipfs.store.objects.values import BlobId, Extent


@dataclass(frozen=True, slots=True)
class Cell:
    """File bytes [offset, offset + nbytes) are bytes [start, start + nbytes) of decoded frame `index` of a blob."""

    offset: int
    nbytes: int
    blob_id: BlobId
    index: int
    start: int


class Cells:
    """The cells of a file, numbered in its order. `extents` tile the file and are sorted by offset."""

    def __init__(self, extents: Sequence[Extent]) -> None:
        self._extents = extents
        self._offsets = [extent.offset for extent in extents]
        counts = (_last_frame(extent) - extent.blob_offset // FRAME_NBYTES + 1 for extent in extents)
        self._first_cells = list(accumulate(counts, initial=0))
        self.nbytes = extents[-1].offset + extents[-1].nbytes if extents else 0

    def __len__(self) -> int:
        return self._first_cells[-1]

    def __getitem__(self, number: int) -> Cell:
        at = bisect_right(self._first_cells, number) - 1
        extent = self._extents[at]
        index = extent.blob_offset // FRAME_NBYTES + number - self._first_cells[at]
        begin = max(extent.blob_offset, index * FRAME_NBYTES)
        end = min(extent.blob_offset + extent.nbytes, (index + 1) * FRAME_NBYTES)
        offset = extent.offset + begin - extent.blob_offset
        return Cell(offset, end - begin, extent.blob_id, index, begin - index * FRAME_NBYTES)

    def at(self, offset: int) -> int:
        """The number of the cell that holds the byte at `offset` of the file, which has it."""
        at = bisect_right(self._offsets, offset) - 1
        extent = self._extents[at]
        index = (extent.blob_offset + offset - extent.offset) // FRAME_NBYTES
        return self._first_cells[at] + index - extent.blob_offset // FRAME_NBYTES

    def extent_at(self, offset: int) -> Extent:
        """The extent that holds the byte at `offset` of the file, which has it."""
        return self._extents[bisect_right(self._offsets, offset) - 1]


def _last_frame(extent: Extent) -> int:
    return (extent.blob_offset + extent.nbytes - 1) // FRAME_NBYTES
