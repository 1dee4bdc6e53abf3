"""What the messages of an HDF5 object header say of a dataset: the type of its items, its axes, and where they lie.

Owns the parsing of single messages. Each function is given the bytes of one message and returns None for what is valid,
or may be, and is none of what is taken: big-endian and compound types, chunked and compact layouts. Source: "HDF5 File
Format Specification Version 3.0", IV.A.2. Pure; any thread may call it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zipfs.errors import NotThisFormat

ADDRESS_NBYTES: Final = 8
"""The width of addresses and lengths; files of other widths are not taken."""
UNDEFINED: Final = (1 << 64) - 1

MAX_AXES: Final = 32

_FIXED_POINT, _FLOAT, _OPAQUE, _ENUM = 0, 1, 5, 8
_INTEGERS: Final = {
    (1, True): "I8", (2, True): "I16", (4, True): "I32", (8, True): "I64",
    (1, False): "U8", (2, False): "U16", (4, False): "U32", (8, False): "U64",
}  # fmt: skip
_FLOATS: Final = {
    (8, 3, 4): "F8_E4M3",
    (8, 2, 5): "F8_E5M2",
    (16, 10, 5): "F16",
    (16, 7, 8): "BF16",
    (32, 23, 8): "F32",
    (64, 52, 11): "F64",
}
"""Bits, where the exponent begins, and bits of the exponent -> name."""
_BIG_ENDIAN: Final = 1 | 1 << 6
_IS_SIGNED: Final = 1 << 3
_FLOAT_FIELDS_NBYTES: Final = 12


def parse_dtype(message: bytes) -> str | None:
    """Return the name of the item type that a datatype message describes.

    Two opaque bytes are a bfloat16: so Keras and h5py keep what ml_dtypes gives them. An enumeration of one byte is
    h5py's bool.
    """
    if len(message) < ADDRESS_NBYTES:
        return None
    kind, flags = message[0] & 15, int.from_bytes(message[1:4], "little")
    nbytes, properties = int.from_bytes(message[4:8], "little"), message[8:]
    if kind == _OPAQUE:
        return "BF16" if nbytes == 2 else None
    if kind == _ENUM:
        return "U8" if nbytes == 1 else None
    if kind == _FIXED_POINT and len(properties) >= 4:
        is_whole = properties[:4] == bytes((0, 0, 8 * nbytes & 0xFF, 0))
        return _INTEGERS.get((nbytes, bool(flags & _IS_SIGNED))) if is_whole and _is_little(flags, nbytes) else None
    if kind == _FLOAT and len(properties) >= _FLOAT_FIELDS_NBYTES:
        exponent_at, exponent_bits, mantissa_at, mantissa_bits = properties[4:8]
        is_whole = properties[:4] == bytes((0, 0, 8 * nbytes & 0xFF, 0)) and mantissa_at == 0
        dtype = _FLOATS.get((8 * nbytes, exponent_at, exponent_bits))
        return dtype if is_whole and mantissa_bits == exponent_at and _is_little(flags, nbytes) else None
    return None


def _is_little(flags: int, nbytes: int) -> bool:
    return nbytes == 1 or not flags & _BIG_ENDIAN


def parse_shape(message: bytes) -> tuple[int, ...] | None:
    """Return the axes that a dataspace message describes."""
    if len(message) < 4:
        return None
    version, rank = message[:2]
    at = {1: 8, 2: 4}.get(version)
    if at is None or rank > MAX_AXES or at + rank * ADDRESS_NBYTES > len(message):
        return None
    if version == 2 and message[3] not in (0, 1):
        return None
    return tuple(address(message, at + axis * ADDRESS_NBYTES) for axis in range(rank))


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the items of a contiguous dataset lie; `nbytes` is None where only the shape tells."""

    address: int
    nbytes: int | None


def parse_layout(message: bytes) -> Extent | None:
    """Return where a data layout message says that the items lie."""
    if message[:2] in (b"\3\1", b"\4\1", b"\5\1") and len(message) >= 2 + 2 * ADDRESS_NBYTES:
        found = Extent(address(message, 2), address(message, 2 + ADDRESS_NBYTES))
    elif message[:1] in (b"\1", b"\2") and message[2:3] == b"\1" and len(message) >= 8 + ADDRESS_NBYTES:
        found = Extent(address(message, 8), None)
    else:
        return None
    return None if found.address == UNDEFINED else found


@dataclass(frozen=True, slots=True)
class Link:
    """What a link message says, and where in its bytes it ends; `address` is None of links that are not hard."""

    name: str
    address: int | None
    end: int


def parse_link(content: bytes, at: int) -> Link | None:
    """Return the link whose message begins at `at`; None if none does."""
    if content[at : at + 1] != b"\1" or at + 3 > len(content):
        return None
    flags = content[at + 1]
    at += 2
    is_hard = True
    if flags & 8:
        is_hard = content[at] == 0
        at += 1
    at += 8 * bool(flags & 4) + bool(flags & 16)
    width = 1 << (flags & 3)
    name_at = at + width
    name_end = name_at + int.from_bytes(content[at:name_at], "little")
    name = content[name_at:name_end].decode("utf-8", "replace")
    value_nbytes = ADDRESS_NBYTES if is_hard else 2 + int.from_bytes(content[name_end : name_end + 2], "little")
    if flags & 0xE0 or name_end == name_at or name_end + value_nbytes > len(content):
        return None
    return Link(name, address(content, name_end) if is_hard else None, name_end + value_nbytes)


def address(content: bytes, at: int) -> int:
    """Return the address or length at `at`. Raises NotThisFormat if it is cut off."""
    if at + ADDRESS_NBYTES > len(content):
        raise NotThisFormat("an address that is cut off")
    return int.from_bytes(content[at : at + ADDRESS_NBYTES], "little")
