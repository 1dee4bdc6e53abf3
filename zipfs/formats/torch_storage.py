"""Owns how a storage of torch is cut into spans: by the tensors that are views of it, if those do not overlap.

A storage is a run of items that any number of tensors look at, each with an offset, a shape and strides. Pure; any
thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Final

from zipfs.dtypes import DTYPES, item_nbytes
from zipfs.formats.layout import Span
from zipfs.formats.torch_tensors import Tensor

_USIZE_END: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the bytes of a storage lie in a file. `dtype` is that of its items, "" if that is not known."""

    name: str
    offset: int
    nbytes: int
    dtype: str
    is_big_endian: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    """What of a storage a tensor takes, in bytes. `shape` is None of one that leaves items out or takes some twice."""

    begin: int
    end: int
    dtype: str
    shape: tuple[int, ...] | None
    name: str


def cut_storage(storage: Storage, tensors: Iterable[Tensor]) -> list[Span]:
    """Return spans that tile a storage, in order: the tensors that are views of it, and what none of them takes.

    A storage whose views overlap, or leave out items between those that they take, is one span.
    """
    if not storage.nbytes:
        return []
    views = sorted(_views(storage, tensors), key=lambda view: (view.begin, -view.end))
    if not views:
        return [_span(storage, 0, storage.nbytes, storage.dtype, None, storage.name)]
    first = views[0]
    if first.shape is not None and first.begin == 0 and first.end == storage.nbytes:
        return [_span(storage, 0, storage.nbytes, first.dtype, first.shape, first.name)]
    if any(view.shape is None for view in views) or _overlap(views):
        return [_span(storage, 0, storage.nbytes, storage.dtype or first.dtype, None, first.name)]
    spans: list[Span] = []
    end = 0
    for view in views:
        if view.end == end:
            continue
        if view.begin > end:
            spans.append(_span(storage, end, view.begin, storage.dtype or view.dtype, None, storage.name))
        spans.append(_span(storage, view.begin, view.end, view.dtype, view.shape, view.name))
        end = view.end
    if end < storage.nbytes:
        spans.append(_span(storage, end, storage.nbytes, storage.dtype or views[-1].dtype, None, storage.name))
    return spans


def _views(storage: Storage, tensors: Iterable[Tensor]) -> list[_View]:
    """Return the views that lie within the storage; if two take the same bytes, the first of them."""
    views: dict[tuple[int, int], _View] = {}
    for tensor in tensors:
        nitems, is_dense, is_in_order = _extent(tensor.shape, tensor.strides)
        begin = (tensor.storage.first_item + tensor.offset) * tensor.items.nbytes
        end = begin + nitems * tensor.items.nbytes
        if not nitems or end > storage.nbytes:
            continue
        shape = (*tensor.shape, *tensor.items.parts) if is_in_order else () if is_dense else None
        view = _View(begin, end, tensor.items.dtype, shape, tensor.name or storage.name)
        views.setdefault((begin, end), view)
    return list(views.values())


def _overlap(views: list[_View]) -> bool:
    return any(view.end > after.begin for view, after in pairwise(views))


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, bool, bool]:
    """Return from its first to its last how many items a tensor spans, whether it has all of these once, and in order.

    A tensor of no items, or of more than any machine has, spans none.
    """
    nitems = prod(shape)
    if not 0 < nitems < _USIZE_END:
        return 0, False, False
    axes = [(stride, length) for length, stride in zip(shape, strides, strict=True) if length > 1]
    if _is_dense(axes[::-1]):
        return nitems, True, True
    return 1 + sum((length - 1) * stride for stride, length in axes), _is_dense(sorted(axes)), False


def _is_dense(axes: list[tuple[int, int]]) -> bool:
    """Return whether each axis, from the innermost on, begins where those inside it end."""
    inner = 1
    for stride, length in axes:
        if stride != inner:
            return False
        inner *= length
    return True


def _span(storage: Storage, begin: int, end: int, dtype: str, shape: tuple[int, ...] | None, name: str) -> Span:
    """Return a span of the storage; plain bytes if the items are not whole, not aligned, or turned around."""
    nbytes = end - begin
    kind = DTYPES.get(dtype)
    if kind is None or nbytes % kind.block_nbytes or (storage.is_big_endian and item_nbytes(dtype) > 1):
        return Span(storage.offset + begin, nbytes, "", (), name)
    return Span(storage.offset + begin, nbytes, dtype, shape or (), name)
