"""Owns views: what a blob is coded against is a range of its base, cast if that helps, then zeros.

Byte `i` of the blob is coded against byte `i` of the view.  Bytes [a, b) of a view need one range of the base and no
other, so that any frame of the blob is decoded by itself.  Pure; any thread may call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from zipfs.codec import Cast
from zipfs.errors import CatalogDamaged


@dataclass(frozen=True, slots=True)
class View:
    """Bytes [offset, offset + nbytes) of a base, each item cast to another type if there is a `cast`; zeros follow.

    Raises ValueError for negative numbers, and for a range that cuts through items that are to be cast.
    """

    offset: int
    nbytes: int
    cast: Cast | None = None

    def __post_init__(self) -> None:
        if self.offset < 0 or self.nbytes <= 0:
            raise ValueError(f"a view of {self.nbytes} bytes from {self.offset} on")
        if self.cast is not None and (self.offset % self.cast.source_nbytes or self.nbytes % self.cast.source_nbytes):
            raise ValueError(f"a view that is cast from {self.cast.source} and cuts through its items")

    def needed(self, start: int, nbytes: int) -> tuple[int, int]:
        """Return (offset, length) of the bytes of the base that bytes [start, start + nbytes) of the view are made of.

        `start` is a multiple of eight, as every frame is.  A length of 0 means that all of them are zeros.
        """
        if self.cast is not None:
            nbytes = nbytes // self.cast.target_nbytes * self.cast.source_nbytes
            start = start // self.cast.target_nbytes * self.cast.source_nbytes
        return self.offset + start, max(0, min(nbytes, self.nbytes - start))

    def is_range(self, needed: int, nbytes: int) -> bool:
        """Return whether `needed` bytes of the base are, as they are, `nbytes` bytes of the view."""
        return self.cast is None and needed == nbytes

    def fill(self, parts: Iterable[memoryview], out: memoryview) -> None:
        """Fill `out` with the view of the bytes that `needed` named: `parts` are these, cut between items at most."""
        at = 0
        for part in parts:
            if self.cast is None:
                out[at : at + len(part)] = part
                at += len(part)
            else:
                nbytes = len(part) // self.cast.source_nbytes * self.cast.target_nbytes
                self.cast.apply(part, out[at : at + nbytes])
                at += nbytes
        out[at:] = bytes(len(out) - at)


class Piece(NamedTuple):
    """A part of frame `frame` of a blob."""

    frame: int
    cut: slice


def pieces(offset: int, nbytes: int, step_nbytes: int) -> Iterator[Piece]:
    """Yield the pieces, one of each frame, that make up bytes [offset, offset + nbytes) of a blob.

    Its frames begin at multiples of `step_nbytes`.
    """
    end = offset + nbytes
    while offset < end:
        index, start = divmod(offset, step_nbytes)
        stop = min(step_nbytes, start + end - offset)
        yield Piece(index, slice(start, stop))
        offset += stop - start


def check_view(blob_id: int, view: View, base_id: int, base_nbytes: int, *, base_has_base: bool) -> None:
    """Raise CatalogDamaged for a view that its base cannot give, or of a base that is not coded standalone."""
    if base_has_base:
        raise CatalogDamaged(f"blob {blob_id} has base {base_id}, which has a base itself")
    if view.offset + view.nbytes > base_nbytes:
        raise CatalogDamaged(
            f"blob {blob_id} is coded against bytes {view.offset} to {view.offset + view.nbytes} of blob {base_id},"
            f" which has {base_nbytes}"
        )
