"""What a file is made of: spans that tile it.

Owns the two records that every parser returns and the signature of the reader that every parser is given. The spans of
a layout always tile [0, size of the file) exactly, in file order, and none has a length of zero. Plain values: any
thread may use them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""`read(offset, length)` returns exactly those bytes, fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a file that is best stored by itself.

    `offset` and `nbytes` are in bytes from the start of the file. `dtype` is the safetensors name of the item type, ""
    for plain bytes. `shape` counts items (not bytes) along each axis; it is () for plain bytes and for scalars. `name`
    is the name of the tensor, None for headers and opaque content.
    """

    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    name: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of a file ("safetensors", "opaque") and the spans that tile it, in file order."""

    format: str
    spans: tuple[Span, ...]


def opaque(nbytes: int) -> Layout:
    """Return the layout of a file of which only the size is known: one span of plain bytes, none if it is empty."""
    return Layout("opaque", (Span(0, nbytes, "", (), None),) if nbytes else ())
