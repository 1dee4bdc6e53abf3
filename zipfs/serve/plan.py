"""Which frames a range of a file is made of. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from zipfs.codec import FRAME_NBYTES
from zipfs.store.rows import BlobId, Extent


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, start + nbytes) of the decoded frame `index` of a blob."""

    blob_id: BlobId
    index: int
    start: int
    nbytes: int


def plan_range(extents: Sequence[Extent], offset: int, nbytes: int) -> list[Piece]:
    """The pieces that make up file bytes [offset, offset + nbytes), in order; cut off at the end of the file.

    `extents` tile the file and are sorted by offset.
    """
    pieces: list[Piece] = []
    end = offset + nbytes
    at = max(0, bisect_right(extents, offset, key=lambda extent: extent.offset) - 1)
    while offset < end and at < len(extents):
        extent = extents[at]
        in_blob = extent.blob_offset + (offset - extent.offset)
        stop = extent.blob_offset + min(end - extent.offset, extent.nbytes)
        while in_blob < stop:
            index, start = divmod(in_blob, FRAME_NBYTES)
            length = min(FRAME_NBYTES - start, stop - in_blob)
            pieces.append(Piece(extent.blob_id, index, start, length))
            in_blob += length
        offset = extent.offset + extent.nbytes
        at += 1
    return pieces
