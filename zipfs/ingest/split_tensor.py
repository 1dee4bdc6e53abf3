"""How a tensor is laid out in parts that have a relative each. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zipfs.bases.similarity.alignment import PartialMatch, least_range_nbytes
from zipfs.codec import item_nbytes
from zipfs.formats import Span
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, BlobId


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a tensor, to be stored by itself; `equal` if it probably has the very bytes of its base."""

    span: Span
    base: BaseRef | None
    equal: bool


def parts_of(span: Span, relatives: Sequence[PartialMatch]) -> list[Part]:
    """Parts that tile a span: one for each relative, of which there is at least one, and what lies between them.

    A few items behind a part join it, because a part has its price; they are coded against zeros.
    """
    item = item_nbytes(span.dtype)
    items = span.nbytes // item
    parts: list[Part] = []
    at = 0
    for number, relative in enumerate(relatives):
        if at < relative.start:
            parts.append(_part(span, at, relative.start, None))
        stop = relatives[number + 1].start if number + 1 < len(relatives) else items
        if relative.is_member or (stop - relative.stop) * item >= least_range_nbytes(span.nbytes):
            stop = relative.stop
        parts.append(_part(span, relative.start, stop, relative))
        at = stop
    if at < items:
        parts.append(_part(span, at, items, None))
    odd = span.nbytes - items * item
    if odd:
        parts.append(Part(Span(span.offset + span.nbytes - odd, odd, "", (), span.name), None, equal=False))
    return parts


def parts_of_repetition(span: Span, items: int) -> tuple[Span, ...]:
    """What comes again after `items` items, and the rest; nothing if that is not worth it, or the whole is no more."""
    nbytes = items * item_nbytes(span.dtype)
    if not least_range_nbytes(span.nbytes) <= nbytes < span.nbytes:
        return ()
    total = span.nbytes // item_nbytes(span.dtype)
    first = Span(span.offset, nbytes, span.dtype, _shape(span.shape, 0, items), span.name)
    rest_shape = _shape(span.shape, items, total)
    return first, Span(span.offset + nbytes, span.nbytes - nbytes, span.dtype, rest_shape, span.name)


def _part(span: Span, start: int, stop: int, relative: PartialMatch | None) -> Part:
    item = item_nbytes(span.dtype)
    if (start, stop) == (0, span.nbytes // item):
        of = replace(span, nbytes=stop * item)
    else:
        shape = _shape(span.shape, start, stop)
        of = Span(span.offset + start * item, (stop - start) * item, span.dtype, shape, span.name)
    if relative is None:
        return Part(of, None, equal=False)
    width = item if relative.cast is None else relative.cast.source_nbytes
    view = View((start + relative.distance) * width, (relative.stop - start) * width, relative.cast)
    equal = relative.equal and relative.cast is None and stop == relative.stop
    return Part(of, BaseRef(BlobId(relative.blob_id), view), equal)


def _shape(shape: Sequence[int], start: int, stop: int) -> tuple[int, ...]:
    """Whole rows keep their shape; what is cut elsewhere is a row of items."""
    row = math.prod(shape[1:])
    if len(shape) > 1 and row and start % row == 0 and stop % row == 0:
        return ((stop - start) // row, *shape[1:])
    return (stop - start,)
