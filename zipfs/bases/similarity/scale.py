"""Owns the estimate of a scale by which items of one type become those of another, as quantised weights have one.

Pure; any thread may call.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.codec import Cast
from zipfs.dtypes import float_fields

_TOLD_APART: Final = 1 / 512
"""A scale this near to 1 is the error of rounding."""
_LARGEST: Final = 2.0**60


def cast_array(items: NDArray[np.uint8], cast: Cast) -> NDArray[np.uint8]:
    """Return the bytes of `items`, whole ones, after a cast; uint8 (bytes,)."""
    out = np.empty(items.size // cast.source_nbytes * cast.target_nbytes, np.uint8)
    cast.apply(np.ascontiguousarray(items).data, out.data)
    return out


def estimate_scale(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], cast: Cast) -> float | None:
    """Return a float32 by which `theirs` become `ours`, bytes of as many items before and after `cast`; None if it
    is near 1.

    Where some scale rounds to all of `ours`, the middle of all that do, which is off by about an eighth of the step of
    the type over the number of items; else the one of least squares.
    """
    mine, other = _magnitudes(ours, cast.target), _magnitudes(theirs, cast.source)
    known = (mine > 0) & (other > 0) & (mine < _LARGEST) & (other < _LARGEST)  # NaN is neither
    mine, other = mine[known], other[known]
    if not mine.size:
        return None
    exponent_bits, mantissa_bits = float_fields(cast.target)
    least = 2 - (1 << (exponent_bits - 1))
    half_step = np.exp2(np.maximum(np.floor(np.log2(mine)), least) - mantissa_bits - 1)
    lowest, highest = np.max((mine - half_step) / other), np.min((mine + half_step) / other)
    scale = (lowest + highest) / 2 if lowest <= highest else np.dot(mine, other) / np.dot(other, other)
    rounded = float(np.float32(scale))
    if not 1 / _LARGEST < rounded < _LARGEST or abs(rounded - 1) < _TOLD_APART:
        return None
    return rounded


def _magnitudes(items: NDArray[np.uint8], dtype: str) -> NDArray[np.float64]:
    wide = items if dtype == "F32" else cast_array(items, Cast(dtype, "F32"))
    return np.abs(np.ascontiguousarray(wide).view("<f4").ravel().astype(np.float64))
