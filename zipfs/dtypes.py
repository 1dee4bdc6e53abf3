"""Owns the table of item types: how many bits an item has, which of them are what, and how the codec lays it out.

Names are those of safetensors and, for types whose weights come in blocks with scales of their own, those of GGML. A
name that is not in the table stands for plain bytes, and is never refused here. Pure tables that belong to no room; any
thread may use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final


@dataclass(frozen=True, slots=True)
class DType:
    """One type of items.

    `block_weights` items take `block_nbytes` bytes, the least that is whole bytes. `coded_nbytes` is the unit in which
    they are coded: 1, 2, 4 or 8 bytes. `layout` is the code that native/common.h and payloads have for that unit.
    Before it is coded standalone a unit is turned left by `turned_bits`, so that its exponent fills a byte. Floats have
    `exponent_bits` and `mantissa_bits` below their sign. `block_code` stands in payloads that are coded block by block,
    so it is never given to another type; 0 if there are none.
    """

    block_nbytes: int
    block_weights: int
    coded_nbytes: int
    layout: int
    turned_bits: int = 0
    exponent_bits: int = 0
    mantissa_bits: int = 0
    block_code: int = 0

    @property
    def bits(self) -> float:
        """Return the bits of a weight, exactly: a block has a power of two of them."""
        return 8 * self.block_nbytes / self.block_weights


# Items of less than a byte share bytes with their neighbours: single bytes are the only unit that always divides them.
# A complex item is two floats of half its size, whose planes differ: C64 is coded as pairs of F32. FNUZ floats have the
# fields of their siblings.
SAFETENSORS_DTYPES: Final = {
    "BOOL": DType(1, 1, 1, 7),
    "F4": DType(1, 2, 1, 7),
    "F6_E2M3": DType(3, 4, 1, 7),
    "F6_E3M2": DType(3, 4, 1, 7),
    "U8": DType(1, 1, 1, 7),
    "I8": DType(1, 1, 1, 7),
    "F8_E5M2": DType(1, 1, 1, 6, 0, 5, 2),
    "F8_E4M3": DType(1, 1, 1, 5, 0, 4, 3),
    "F8_E8M0": DType(1, 1, 1, 7),
    "F8_E4M3FNUZ": DType(1, 1, 1, 5, 0, 4, 3),
    "F8_E5M2FNUZ": DType(1, 1, 1, 6, 0, 5, 2),
    "I16": DType(2, 1, 2, 8),
    "U16": DType(2, 1, 2, 8),
    "F16": DType(2, 1, 2, 2, 1, 5, 10),
    "BF16": DType(2, 1, 2, 1, 1, 8, 7),
    "I32": DType(4, 1, 4, 9),
    "U32": DType(4, 1, 4, 9),
    "F32": DType(4, 1, 4, 3, 1, 8, 23),
    "C64": DType(8, 1, 4, 3, 1, 8, 23),
    "F64": DType(8, 1, 8, 4, 4, 11, 52),
    "I64": DType(8, 1, 8, 10),
    "U64": DType(8, 1, 8, 10),
}
"""Name -> type, of every type that safetensors 0.8 knows."""

# A block has its scales among its codes: single bytes are the only unit, and no block is a float.
BLOCK_DTYPES: Final = {
    "Q1_0": DType(18, 128, 1, 7, block_code=1),
    "Q2_0": DType(18, 64, 1, 7, block_code=2),
    "Q4_0": DType(18, 32, 1, 7, block_code=3),
    "Q4_1": DType(20, 32, 1, 7, block_code=4),
    "Q5_0": DType(22, 32, 1, 7, block_code=5),
    "Q5_1": DType(24, 32, 1, 7, block_code=6),
    "Q8_0": DType(34, 32, 1, 7, block_code=7),
    "Q8_1": DType(36, 32, 1, 7, block_code=8),
    "Q2_K": DType(84, 256, 1, 7, block_code=9),
    "Q3_K": DType(110, 256, 1, 7, block_code=10),
    "Q4_K": DType(144, 256, 1, 7, block_code=11),
    "Q5_K": DType(176, 256, 1, 7, block_code=12),
    "Q6_K": DType(210, 256, 1, 7, block_code=13),
    "Q8_K": DType(292, 256, 1, 7, block_code=14),
    "IQ1_S": DType(50, 256, 1, 7, block_code=15),
    "IQ1_M": DType(56, 256, 1, 7, block_code=16),
    "IQ2_XXS": DType(66, 256, 1, 7, block_code=17),
    "IQ2_XS": DType(74, 256, 1, 7, block_code=18),
    "IQ2_S": DType(82, 256, 1, 7, block_code=19),
    "IQ3_XXS": DType(98, 256, 1, 7, block_code=20),
    "IQ3_S": DType(110, 256, 1, 7, block_code=21),
    "IQ4_NL": DType(18, 32, 1, 7, block_code=22),
    "IQ4_XS": DType(136, 256, 1, 7, block_code=23),
    "TQ1_0": DType(54, 256, 1, 7, block_code=24),
    "TQ2_0": DType(66, 256, 1, 7, block_code=25),
    "MXFP4": DType(17, 32, 1, 7, block_code=26),
    "NVFP4": DType(36, 64, 1, 7, block_code=27),
}
"""Name -> type, of every type of ggml.h whose weights come in blocks, by the names that it gives them."""

DTYPES: Final = {**SAFETENSORS_DTYPES, **BLOCK_DTYPES}

BITS_OF_DTYPE: Final = {name: dtype.bits for name, dtype in DTYPES.items()}

_PLAIN_BYTES: Final = DType(1, 1, 1, 0)


def item_nbytes(dtype: str) -> int:
    """Return the bytes of the unit in which items of `dtype` are coded: 1, 2, 4 or 8."""
    return DTYPES.get(dtype, _PLAIN_BYTES).coded_nbytes


def cut_nbytes(dtype: str) -> int:
    """Return the bytes of a block or an item: at multiples of it a tensor is cut where its parts are to be tensors."""
    found = BLOCK_DTYPES.get(dtype)
    return item_nbytes(dtype) if found is None else found.block_nbytes


def row_items(dtype: str, shape: Sequence[int]) -> int:
    """Return how many units, as they are coded, a row of a tensor has; 0 without rows. A shape counts weights."""
    weights = prod(shape[1:]) if len(shape) > 1 else 0
    found = BLOCK_DTYPES.get(dtype)
    return weights if found is None else weights * found.block_nbytes // found.block_weights


def layout_code(dtype: str) -> int:
    """Return the code of the bit fields of `dtype` for the native codecs; 0 for plain bytes."""
    return DTYPES.get(dtype, _PLAIN_BYTES).layout


def block_code(dtype: str) -> int:
    """Return the code of the blocks of `dtype` for the native codec; 0 if it has none."""
    return DTYPES.get(dtype, _PLAIN_BYTES).block_code


def block_nbytes(dtype: str) -> int:
    """Return the bytes of the least number of items of `dtype` that is whole bytes."""
    return DTYPES.get(dtype, _PLAIN_BYTES).block_nbytes


def turned_bits(dtype: str) -> int:
    """Return by how many bits units of `dtype` are turned left before they are coded standalone."""
    return DTYPES.get(dtype, _PLAIN_BYTES).turned_bits


def float_fields(dtype: str) -> tuple[int, int]:
    """Return the bits of exponent and mantissa below the sign; (0, 0) if items of `dtype` are no floats."""
    found = DTYPES.get(dtype, _PLAIN_BYTES)
    return found.exponent_bits, found.mantissa_bits


def is_tensor(dtype: str) -> bool:
    """Return whether `dtype` names a type of items; "" and unknown names are plain bytes."""
    return dtype in DTYPES
