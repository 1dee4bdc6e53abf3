"""Owns the division of a tensor into parts that match something each, or repeat. Pure.

A tensor of a block type is divided between blocks only: so each part is one, too, and is coded as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zipfs.bases.similarity.alignment import PartialMatch, least_range_nbytes
from zipfs.codec import item_nbytes
from zipfs.dtypes import BLOCK_DTYPES, cut_nbytes, row_items
from zipfs.formats import Span
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, BlobId


@dataclass(frozen=True, slots=True)
class TensorPart:
    """A range of a tensor, to be stored by itself; `is_equal` if it probably has the very bytes of its base.

    `bits` are predicted of an item of a part with a base.
    """

    span: Span
    base: BaseRef | None
    bits: float = math.nan
    is_equal: bool = False


def parts_of(span: Span, matches: Sequence[PartialMatch]) -> list[TensorPart]:
    """Return parts that tile a span: one for each match, of which there is at least one, and what lies between them.

    A few items behind a part join it, because a part has its price; they are coded against zeros.
    """
    item = item_nbytes(span.dtype)
    items = span.nbytes // item
    parts: list[TensorPart] = []
    at = 0
    for number, match in enumerate(matches):
        if at < match.start:
            parts.append(_part(span, at, match.start, None))
        stop = matches[number + 1].start if number + 1 < len(matches) else items
        if match.is_member or (stop - match.stop) * item >= least_range_nbytes(span.nbytes):
            stop = match.stop
        parts.append(_part(span, match.start, stop, match))
        at = stop
    if at < items:
        parts.append(_part(span, at, items, None))
    odd = span.nbytes - items * item
    if odd:
        parts.append(TensorPart(Span(span.offset + span.nbytes - odd, odd, "", (), span.name), None))
    return parts


def parts_of_repetition(span: Span, items: int) -> tuple[Span, ...]:
    """Return what comes again after `items` items, and the rest; nothing if that is not worth it, or is the whole."""
    nbytes = items * item_nbytes(span.dtype)
    if not least_range_nbytes(span.nbytes) <= nbytes < span.nbytes or nbytes % cut_nbytes(span.dtype):
        return ()
    total = span.nbytes // item_nbytes(span.dtype)
    first = Span(span.offset, nbytes, span.dtype, _shape(span, 0, items), span.name)
    rest_shape = _shape(span, items, total)
    return first, Span(span.offset + nbytes, span.nbytes - nbytes, span.dtype, rest_shape, span.name)


def _part(span: Span, start: int, stop: int, match: PartialMatch | None) -> TensorPart:
    item = item_nbytes(span.dtype)
    if (start, stop) == (0, span.nbytes // item):
        of = replace(span, nbytes=stop * item)
    else:
        shape = _shape(span, start, stop)
        of = Span(span.offset + start * item, (stop - start) * item, span.dtype, shape, span.name)
    if match is None:
        return TensorPart(of, None)
    width = item if match.cast is None else match.cast.source_nbytes
    view = View((start + match.distance) * width, (match.stop - start) * width, match.cast)
    equal = match.equal and match.cast is None and stop == match.stop
    return TensorPart(of, BaseRef(BlobId(match.blob_id), view), match.bits, equal)


def _shape(span: Span, start: int, stop: int) -> tuple[int, ...]:
    """Return the shape of a cut: whole rows keep theirs; what is cut elsewhere is a row of items, or of weights."""
    row = row_items(span.dtype, span.shape)
    if row and start % row == 0 and stop % row == 0:
        return ((stop - start) // row, *span.shape[1:])
    block = BLOCK_DTYPES.get(span.dtype)
    return (stop - start if block is None else (stop - start) // block.block_nbytes * block.block_weights,)
