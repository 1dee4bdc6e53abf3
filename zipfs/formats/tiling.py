"""Tensors that a parser found anywhere in a file, to a layout that tiles it.

Owns what becomes of the bytes between tensors, of tensors that overlap, and of names that repeat: a container may put
its tensors in any order, with anything between them. Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter

from zipfs.formats.layout import Layout, Span


def tile(format_name: str, tensors: Iterable[Span], nbytes: int) -> Layout:
    """Return the layout of a file of `nbytes` that holds `tensors`; what lies between them is plain bytes.

    A tensor that is empty, that leaves the file, or that begins inside another one is none: its bytes stay what they
    are besides. Of two tensors of one name the second is told by its offset, too.
    """
    spans: list[Span] = []
    names: set[str] = set()
    end = 0
    for tensor in sorted(tensors, key=attrgetter("offset", "nbytes")):
        if tensor.nbytes <= 0 or tensor.offset < end or tensor.offset + tensor.nbytes > nbytes:
            continue
        if tensor.offset > end:
            spans.append(_plain(end, tensor.offset))
        spans.append(_named_apart(tensor, names))
        end = tensor.offset + tensor.nbytes
    if end < nbytes:
        spans.append(_plain(end, nbytes))
    return Layout(format_name, tuple(spans))


def _plain(begin: int, end: int) -> Span:
    return Span(begin, end - begin, "", (), None)


def _named_apart(tensor: Span, names: set[str]) -> Span:
    name = tensor.name
    if name is None:
        return tensor
    while name in names:
        name = f"{name} at {tensor.offset}"
    names.add(name)
    return tensor if name == tensor.name else replace(tensor, name=name)
