"""Owns holes of sparse files: ranges for which a file system keeps no bytes, and which are read as zeros.

A hole is stored as extents of one blob of zeros, which all holes share: it is neither read nor coded, however large it
is. Only plain bytes are cut; a tensor stays whole. Pure but for `find_holes`.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from zipfs.formats import Span
from zipfs.store.objects.values import Extent

LEAST_NBYTES: Final = 4 << 20
"""What is shorter is read with the bytes around it."""
_MOST_HOLES: Final = 4096
"""Of more, only the larger ones are taken for holes."""
_ZEROS_NBYTES: Final = 64 << 20
_MOST_ZEROS_NBYTES: Final = 1 << 30
_MOST_EXTENTS: Final = 1 << 14
"""About; more zeros make the blob of them longer, as far as that goes."""
HASHED_NBYTES: Final = 1 << 30
"""Zeros that are hashed for a file's SHA-256: about a second. A file with larger holes has none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A span, or a part of one; `is_hole` if it holds nothing but zeros that need not be read.

    `shown` is of the older version of a file what the piece has unchanged. `is_gathered` if it is stored in one blob
    with others (`gather.py`).
    """

    span: Span
    is_hole: bool = False
    shown: Extent | None = None
    is_gathered: bool = False


def find_holes(fd: int, nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of every hole of LEAST_NBYTES or more, in order; none where the file system does not
    tell.
    """
    if os.fstat(fd).st_blocks * 512 > nbytes - LEAST_NBYTES:
        return
    with suppress(OSError):
        os.fsync(fd)  # a file system may take what it has not written yet for a hole
    at = 0
    while at < nbytes:
        try:
            start = os.lseek(fd, at, os.SEEK_HOLE)
        except OSError:
            return
        if start >= nbytes:
            return
        try:
            at = min(os.lseek(fd, start, os.SEEK_DATA), nbytes)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return  # what nobody tells of is read
            at = nbytes  # a hole up to the end
        if at - start >= LEAST_NBYTES:
            yield start, at - start


def largest(holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return at most _MOST_HOLES of some holes, in order."""
    found = list(holes)
    least_nbytes = LEAST_NBYTES
    while len(found) > _MOST_HOLES:
        least_nbytes *= 2
        found = [hole for hole in found if hole[1] >= least_nbytes]
    return found


def cut(
    spans: Iterable[Span], holes: Sequence[tuple[int, int]], *, least_nbytes: int = LEAST_NBYTES
) -> Iterator[Piece]:
    """Split spans so that holes in plain ones stand apart: pieces with the bytes of the spans. Both are in order."""
    waiting = iter(holes)
    hole = next(waiting, None)
    for span in spans:
        at, end = span.offset, span.offset + span.nbytes
        while hole is not None and hole[0] < end:
            start, stop = max(hole[0], at), min(hole[0] + hole[1], end)
            if not span.dtype and stop - start >= least_nbytes:
                if at < start:
                    yield Piece(Span(at, start - at, "", (), span.name))
                yield Piece(Span(start, stop - start, "", (), span.name), is_hole=True)
                at = stop
            if hole[0] + hole[1] > end:
                break  # it goes on in the next span
            hole = next(waiting, None)
        if at == span.offset:
            yield Piece(span)
        elif at < end:
            yield Piece(Span(at, end - at, "", (), span.name))


def keep(spans: Iterable[Span], shown: Sequence[Extent]) -> Iterator[Piece]:
    """Split spans so that what plain ones have unchanged of an older version stands apart. Both are in order."""
    offsets = [extent.offset for extent in shown]
    for piece in cut(spans, [(extent.offset, extent.nbytes) for extent in shown], least_nbytes=1):
        if piece.is_hole:
            extent, span = shown[bisect_right(offsets, piece.span.offset) - 1], piece.span
            blob_offset = extent.blob_offset + span.offset - extent.offset
            yield Piece(span, shown=Extent(span.offset, span.nbytes, extent.blob_id, blob_offset))
        else:
            yield piece


def zeros_nbytes(total_nbytes: int) -> int:
    """Return how long the blob is best that so many zeros are ranges of."""
    nbytes = _ZEROS_NBYTES
    while nbytes * _MOST_EXTENTS < total_nbytes and nbytes < _MOST_ZEROS_NBYTES:
        nbytes *= 2
    return nbytes
