"""Owns what the codec knows of safetensors dtypes: how wide an item is, and which bits of it are what.

Pure tables; any thread may call.  A name that is not in the table is coded as single bytes, never refused.
"""

from __future__ import annotations

from typing import Final

# Sub-byte items (F4, F6) share bytes with their neighbours, so single bytes are the only unit that always divides them.
# A complex item is two floats of half its size, whose planes differ: C64 is coded as pairs of F32.
_ITEM_NBYTES: Final = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F4": 1,
    "F6_E2M3": 1,
    "F6_E3M2": 1,
    "F8_E4M3": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2": 1,
    "F8_E5M2FNUZ": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "C64": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}

# Codes of native/common.h, which stand in payloads; what has none is plain bytes to the native codecs.  FNUZ floats
# have the fields of their siblings.
_LAYOUTS: Final = {
    "BF16": 1,
    "F16": 2,
    "F32": 3,
    "C64": 3,
    "F64": 4,
    "F8_E4M3": 5,
    "F8_E4M3FNUZ": 5,
    "F8_E5M2": 6,
    "F8_E5M2FNUZ": 6,
    "BOOL": 7,
    "U8": 7,
    "I8": 7,
    "F4": 7,
    "F6_E2M3": 7,
    "F6_E3M2": 7,
    "F8_E8M0": 7,
    "U16": 8,
    "I16": 8,
    "U32": 9,
    "I32": 9,
    "U64": 10,
    "I64": 10,
}

# How far the fields of an item are turned left before it is cut into planes, so that its exponent fills a byte.
_TURNED: Final = {"BF16": 1, "F16": 1, "F32": 1, "C64": 1, "F64": 4}

_FIELDS: Final = {
    "BF16": (8, 7),
    "F16": (5, 10),
    "F32": (8, 23),
    "C64": (8, 23),
    "F64": (11, 52),
    "F8_E4M3": (4, 3),
    "F8_E4M3FNUZ": (4, 3),
    "F8_E5M2": (5, 2),
    "F8_E5M2FNUZ": (5, 2),
}


def item_nbytes(dtype: str) -> int:
    """Bytes of the unit in which values of `dtype` are coded: 1, 2, 4 or 8."""
    return _ITEM_NBYTES.get(dtype, 1)


def layout_code(dtype: str) -> int:
    """Code of the bit fields of `dtype` for the native codecs; 0 for plain bytes."""
    return _LAYOUTS.get(dtype, 0)


def turned_bits(dtype: str) -> int:
    """How many bits items of `dtype` are turned left by when they are coded alone."""
    return _TURNED.get(dtype, 0)


def float_fields(dtype: str) -> tuple[int, int]:
    """Bits of exponent and mantissa below the sign; (0, 0) if items of `dtype` are no floats."""
    return _FIELDS.get(dtype, (0, 0))


def is_tensor(dtype: str) -> bool:
    """Whether `dtype` names items at all; "" and unknown names are plain bytes."""
    return dtype in _ITEM_NBYTES
