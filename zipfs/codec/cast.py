"""Owns casts: which float types become which others, item by item, to the last bit (see README.md).

Pure; any thread may call.  The GIL is released meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from zipfs.codec import _native
from zipfs.codec.contract import view_bytes
from zipfs.dtypes import item_nbytes, layout_code

if TYPE_CHECKING:
    from typing_extensions import Buffer

FLOATS: Final = ("BF16", "F16", "F32", "F8_E4M3", "F8_E5M2")
"""safetensors names of the types that are cast into each other."""

_LEAST_SCALE: Final = float(np.finfo(np.float32).tiny)
_LARGEST_SCALE: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast of items of type `source`, times `scale`, to items of type `target`; both are among FLOATS.

    `scale` is a float32 that is normal and above 0.  Raises ValueError for anything else.
    """

    source: str
    target: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.source not in FLOATS or self.target not in FLOATS or self.source == self.target:
            raise ValueError(f"no cast from {self.source!r} to {self.target!r}")
        if not _LEAST_SCALE <= self.scale <= _LARGEST_SCALE or float(np.float32(self.scale)) != self.scale:
            raise ValueError(f"no cast with the scale {self.scale!r}")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the cast that `str` made `text` of. Raises ValueError."""
        types, _, scale = text.partition("*")
        source, _, target = types.partition(">")
        try:
            cast = cls(source, target, float.fromhex(scale) if scale else 1.0)
        except OverflowError as error:
            raise ValueError(f"no cast with the scale {scale!r}") from error
        if str(cast) != text:
            raise ValueError(f"no cast is written {text!r}")
        return cast

    def __str__(self) -> str:
        scale = "" if self.scale == 1.0 else f"*{self.scale.hex()}"
        return f"{self.source}>{self.target}{scale}"

    @property
    def source_nbytes(self) -> int:
        """Return the bytes of an item before."""
        return item_nbytes(self.source)

    @property
    def target_nbytes(self) -> int:
        """Return the bytes of an item after."""
        return item_nbytes(self.target)

    def apply(self, items: Buffer, out: Buffer) -> None:
        """Fill the writable `out` with the items of `items`.  ValueError unless both hold as many whole items."""
        _native.cast(view_bytes(items), layout_code(self.source), view_bytes(out), layout_code(self.target), self.scale)


def cast_exactly(items: Buffer, dtype: str) -> Cast | None:
    """Return the cast to the narrowest floats that hold each of `items`, of type `dtype`, exactly; None without one.

    The codec does the same for itself, frame by frame.
    """
    narrow = _native.narrow_layout(view_bytes(items), layout_code(dtype)) if dtype in FLOATS else 0
    return Cast(dtype, next(name for name in FLOATS if layout_code(name) == narrow)) if narrow else None
