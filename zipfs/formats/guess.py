"""Owns the guess of what bytes without a type are: items whose exponents and other bytes are distributed like numbers.

A few samples decide. Items of a float type have exponents that lie in a plausible range and take few values, while
their other bytes take many: coding the planes of items apart takes less then than coding the bytes as they come, or
zlib. Text, code, images, compressed data and integers of less than 8 bytes fail at least one of these. FP8 cannot be
told from other bytes.

Pure: the same bytes give the same guess. Any thread may call it.
"""

from __future__ import annotations

import math
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.dtypes import float_fields, item_nbytes, turned_bits
from zipfs.formats.layout import Read

Bytes = NDArray[np.uint8]

PLACES: Final = 16
"""Places that are sampled of what is longer than all samples."""
SAMPLE_NBYTES: Final = 1024
_LEAST_NBYTES: Final = 256
"""Of less nothing can be told."""
_ALIGNMENT: Final = 8

_LEAST_NONZERO: Final = 1 / 8
_MOST_IMPLAUSIBLE: Final = 0.01
_MOST_PARITY_BITS: Final = 0.3
"""How much the parity of its place may tell of the exponent of an item: halves of wider items differ by more."""
_UNIFORM_BITS: Final = 2.7
"""So much entropy have three bits that are the mantissa's, of the eight that could be an exponent."""
_MOST_BITS_OF_BYTES: Final = 7.9
"""Bytes of more entropy have no exponents among them."""
_WORTH: Final = 0.98

_PLAUSIBLE: Final = {
    "BF16": (127 - 96, 127 + 32, 5.5),
    "F16": (0, 15 + 6, 4.2),
    "F32": (127 - 96, 127 + 32, 5.5),
    "F64": (1023 - 200, 1023 + 100, 6.5),
}
"""Exponents as they are stored: the least and the largest that are plausible, and how much entropy they may have."""


def guess_dtype(read: Read, offset: int, nbytes: int) -> str:
    """Return the type of the items that `nbytes` bytes from `offset` on are likely to hold: F64, F32, BF16, F16 or I64.

    Returns "" if they are plain bytes as far as can be told. Reads at most PLACES * SAMPLE_NBYTES bytes. Raises only
    what `read` raises.
    """
    return dtype_of_sample(_sample(read, offset, nbytes))


def dtype_of_sample(sample: bytes) -> str:
    """Return the type of the items that a sample of bytes holds, the first of which is the first of an item."""
    raw = np.frombuffer(sample, np.uint8)
    raw = raw[: raw.size // _ALIGNMENT * _ALIGNMENT]
    if raw.size < _LEAST_NBYTES:
        return ""
    bits_of_bytes = _entropy(raw)
    if bits_of_bytes > _MOST_BITS_OF_BYTES:
        return ""
    dtype = next((dtype for dtype in _PLAUSIBLE if _holds_floats(raw, dtype)), "")
    if not dtype and _holds_int64(raw):
        dtype = "I64"
    if not dtype:
        return ""
    coded_bits = _bits_of_planes(raw, dtype) * raw.size
    others_bits = min(_WORTH * bits_of_bytes * raw.size, 8 * len(zlib.compress(raw.data, 1)))
    return dtype if coded_bits < others_bits else ""


def _sample(read: Read, offset: int, nbytes: int) -> bytes:
    if nbytes <= PLACES * SAMPLE_NBYTES:
        return read(offset, nbytes)
    apart = (nbytes - SAMPLE_NBYTES) // (PLACES - 1) // _ALIGNMENT * _ALIGNMENT
    return b"".join(read(offset + place * apart, SAMPLE_NBYTES) for place in range(PLACES))


def _holds_floats(raw: Bytes, dtype: str) -> bool:
    exponent_bits, mantissa_bits = float_fields(dtype)
    items = raw.view(f"<u{item_nbytes(dtype)}")
    exponents = (items >> mantissa_bits & ((1 << exponent_bits) - 1)).astype(np.intp)
    nonzero = exponents[(items << 1) != 0]
    least, largest, most_bits = _PLAUSIBLE[dtype]
    if nonzero.size < _LEAST_NONZERO * items.size:
        return False
    implausible = np.count_nonzero((nonzero < least) | (nonzero > largest))
    if implausible > _MOST_IMPLAUSIBLE * nonzero.size or _entropy(nonzero) > most_bits:
        return False
    if _entropy(exponents) - (_entropy(exponents[::2]) + _entropy(exponents[1::2])) / 2 > _MOST_PARITY_BITS:
        return False
    return item_nbytes(dtype) != 2 or _looks_like_half(items) == (dtype == "F16")


def _looks_like_half(items: NDArray[np.uint16]) -> bool:
    """Return whether the three bits below F16's exponent, which are of that of BF16, are those of a mantissa."""
    exponents = (items >> 7 & 0xFF).astype(np.intp)
    return _entropy(exponents) - _entropy(exponents >> 3) > _UNIFORM_BITS or not np.any(items & 0xFF)


def _holds_int64(raw: Bytes) -> bool:
    """Return whether items are small integers of either sign, and not all zero."""
    halves = raw.view("<i4")
    low, high = halves[::2], halves[1::2]
    is_small = (high == 0) | ((high == -1) & (low < 0))
    return bool(np.count_nonzero(low) > _LEAST_NONZERO * low.size and np.all(is_small))


def _bits_of_planes(raw: Bytes, dtype: str) -> float:
    """Return about how many bits a byte takes if the planes of turned items are coded, by their entropies."""
    width, turn = item_nbytes(dtype), turned_bits(dtype)
    items = raw.view(f"<u{width}")
    planes = (items << turn | items >> (8 * width - turn) if turn else items).view(np.uint8).reshape(-1, width)
    return sum(_entropy(planes[:, plane]) for plane in range(width)) / width


def _entropy(values: NDArray[np.uint8] | NDArray[np.intp]) -> float:
    """Return the bits of entropy of a value, corrected for how few there are (Miller and Madow)."""
    counts = np.bincount(values)
    counts = counts[counts > 0]
    entropy = np.log2(values.size) - float(counts @ np.log2(counts)) / values.size
    return float(entropy + (counts.size - 1) / (2 * math.log(2) * values.size))
