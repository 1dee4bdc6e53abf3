"""Owns gathering: small plain pieces of a file are stored as ranges of one blob, which holds them in file order.

A container may have a header or padding before every tensor. As blobs of their own they would take a frame, a row and
an entry of an index each, for some bytes that compress with what is around them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from zipfs.formats import Span
from zipfs.ingest.holes import Piece

SMALL_NBYTES: Final = 64 << 10
"""What is shorter is gathered, if there are two of it."""
_BLOB_NBYTES: Final = 64 << 20
"""About; what follows is another blob."""


def mark(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Return pieces with those marked that are gathered: small plain ones that are to be read, if there are several."""
    marked = tuple(replace(piece, is_gathered=True) if _is_small(piece) else piece for piece in pieces)
    return marked if sum(piece.is_gathered for piece in marked) > 1 else tuple(pieces)


def _is_small(piece: Piece) -> bool:
    span = piece.span
    return not (span.dtype or piece.is_hole or piece.shown is not None) and span.nbytes < SMALL_NBYTES


def blobs(pieces: Sequence[Piece]) -> Iterator[list[Span]]:
    """Yield the spans of each blob that marked pieces are gathered in, in file order."""
    spans: list[Span] = []
    nbytes = 0
    for piece in pieces:
        if piece.is_gathered:
            spans.append(piece.span)
            nbytes += piece.span.nbytes
            if nbytes >= _BLOB_NBYTES:
                yield spans
                spans, nbytes = [], 0
    if spans:
        yield spans
