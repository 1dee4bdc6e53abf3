"""What a file is made of: spans that tile it.

Owns the records that every parser returns and the signature of the reader that every parser is given. The spans of
a layout always tile [0, size of the file) exactly, in file order, and none has a length of zero. Plain values: any
thread may use them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Read = Callable[[int, int], bytes]
"""`read(offset, length)` returns exactly those bytes, fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a file that is best stored by itself.

    `offset` and `nbytes` are in bytes from the start of the file. `dtype` is the item type by its name in `dtypes.py`,
    "" for plain bytes. `shape` counts items (not bytes) along each axis; it is () for plain bytes and for scalars.
    `name` is the name of the tensor, None for headers and opaque content.
    """

    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    name: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file that looked like one of `format` is none."""

    format: str
    reason: str


OPAQUE: Final = "opaque"
"""The format of a file that no parser takes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of a file ("safetensors", "opaque") and the spans that tile it, in file order.

    `refusals` tell of an opaque file what it looked like.
    """

    format: str
    spans: tuple[Span, ...]
    refusals: tuple[Refusal, ...] = field(default=(), compare=False)

    @property
    def has_tensors(self) -> bool:
        return any(span.dtype for span in self.spans)


def opaque(nbytes: int, refusals: tuple[Refusal, ...] = ()) -> Layout:
    """Return the layout of a file of which only the size is known: one span of plain bytes, none if it is empty."""
    return Layout(OPAQUE, (Span(0, nbytes, "", (), None),) if nbytes else (), refusals)


def check_tiles(layout: Layout, nbytes: int) -> None:
    """Raise ValueError unless the spans tile a file of `nbytes`: what they left out would not be stored."""
    end = 0
    for span in layout.spans:
        if span.offset != end or span.nbytes <= 0:
            raise ValueError(f"a span of {span.nbytes} bytes at {span.offset}, and the one before ends at {end}")
        end += span.nbytes
    if end != nbytes:
        raise ValueError(f"spans end at byte {end} of a file of {nbytes}")
