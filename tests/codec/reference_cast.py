"""Casts that are written to be read beside README.md, not to be fast.  They share no code with the native ones."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


class Fields(NamedTuple):
    """A float type: bytes of an item, bits of its exponent and of its mantissa; the code of what is too large."""

    item_nbytes: int
    exponent_bits: int
    mantissa_bits: int
    overflow: int


FIELDS: Final = {
    1: Fields(2, 8, 7, 0x7F80),
    2: Fields(2, 5, 10, 0x7C00),
    3: Fields(4, 8, 23, 0x7F80_0000),
    5: Fields(1, 4, 3, 0x7F),
    6: Fields(1, 5, 2, 0x7C),
}
"""Layout code -> fields of a float that is cast."""
E4M3: Final = 5


def cast(items: bytes, source: int, target: int) -> bytes:
    """As many items of layout `target` as `items` holds of layout `source`, by way of F32."""
    words = np.frombuffer(items, f"<u{FIELDS[source].item_nbytes}").astype(np.uint32)
    return _narrow(_widen(words, source), target).astype(f"<u{FIELDS[target].item_nbytes}").tobytes()


def is_narrower(narrow: int, layout: int) -> bool:
    """Whether bitx may code items of `layout` as such of `narrow`."""
    mine, other = FIELDS[narrow], FIELDS[layout]
    return mine.item_nbytes <= other.item_nbytes and mine.mantissa_bits < other.mantissa_bits


def _magnitudes(layout: int) -> NDArray[np.float64]:
    """What each code without a sign stands for, up to that of what is too large, as if it were a number."""
    _, exponent_bits, mantissa_bits, overflow = FIELDS[layout]
    codes = np.arange(overflow + 1)
    exponents, mantissas = codes >> mantissa_bits, codes & ((1 << mantissa_bits) - 1)
    whole = np.where(exponents > 0, mantissas + (1 << mantissa_bits), mantissas)
    bias = (1 << (exponent_bits - 1)) - 1
    magnitudes: NDArray[np.float64] = np.ldexp(
        whole.astype(np.float64), np.maximum(exponents, 1) - bias - mantissa_bits
    )
    return magnitudes


def _widen(words: Words, source: int) -> Words:
    if source == 3:
        return words
    item_nbytes, _, mantissa_bits, overflow = FIELDS[source]
    signs = words >> np.uint32(8 * item_nbytes - 1) << np.uint32(31)
    codes = words & np.uint32((1 << (8 * item_nbytes - 1)) - 1)
    numbers = _magnitudes(source)[np.minimum(codes, overflow - 1)].astype(np.float32).view(np.uint32)
    if source == E4M3:
        special = np.full_like(codes, 0x7FF0_0000)
    else:
        mantissas = codes & np.uint32((1 << mantissa_bits) - 1)
        special = np.uint32(0x7F80_0000) | mantissas << np.uint32(23 - mantissa_bits)
    return signs | np.where(codes >= overflow, special, numbers)


def _narrow(words: Words, target: int) -> Words:
    if target == 3:
        return words
    item_nbytes, _, mantissa_bits, overflow = FIELDS[target]
    signs = words >> np.uint32(31) << np.uint32(8 * item_nbytes - 1)
    codes = words & np.uint32(0x7FFF_FFFF)
    with np.errstate(invalid="ignore"):
        values = codes.view(np.float32).astype(np.float64)
    known = _magnitudes(target)
    above = np.minimum(np.searchsorted(known, values), overflow)
    below = np.maximum(above, 1) - 1
    middle = (known[below] + known[above]) / 2
    nearest = np.where((values > middle) | ((values == middle) & (above % 2 == 0)), above, below)
    nearest = np.where(values == known[above], above, nearest)
    if target in (1, 2):
        top, quiet = overflow | (1 << (mantissa_bits - 1)), codes >> np.uint32(23 - mantissa_bits)
        special = np.uint32(top) | quiet & np.uint32((1 << mantissa_bits) - 1)
    else:
        special = np.full_like(codes, (1 << (8 * item_nbytes - 1)) - 1)
    return signs | np.where(codes > 0x7F80_0000, special, nearest.astype(np.uint32))
