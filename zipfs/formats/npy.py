"""The .npy container of NumPy: a magic string, a header that is a Python dict, the items.

Accepts headers as NumPy's `numpy/lib/format.py` writes them, versions 1 to 3, and those of other writers that differ
only in spaces, in the order of the keys, or by the `L` of Python 2. Nothing is evaluated. Several arrays that were
saved to one file one after the other are all found. Items that are structured, objects, strings or big-endian are
plain bytes.

Pure; any thread may call it.
"""

from __future__ import annotations

import re
from math import prod
from typing import Final

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.source import Source
from zipfs.formats.tiling import tile

FORMAT: Final = "npy"
MAGIC: Final = b"\x93NUMPY"
MAX_HEADER_NBYTES: Final = 1 << 16
"""NumPy itself takes 10,000 characters unless it is told to trust the file; only structured dtypes need more."""
MAX_ARRAYS: Final = 1 << 14
MAX_AXES: Final = 64

_DTYPES: Final = {
    "f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8", "u2": "U16",
    "u4": "U32", "u8": "U64", "b1": "BOOL", "c8": "C64", "c16": "F64",
    "V2": "BF16",
}  # fmt: skip
"""Kind and bytes of a NumPy type -> name. ml_dtypes' bfloat16 is saved as if it were two bytes of any kind; its
types of one byte are saved alike, so that nothing tells which is which."""

_AXIS = rb"[0-9]{1,20}L?\s*"
_MEMBER: Final = re.compile(
    rb"\s*(['\"])(descr|fortran_order|shape)\1\s*:\s*(?:(['\"])([<>|=]?[a-zA-Z][0-9]{1,4})\3|(True|False)"
    rb"|\(\s*((?:" + _AXIS + rb",\s*){0,%d}(?:" % MAX_AXES + _AXIS + rb")?)\))\s*"
)
_LENGTH: Final = re.compile(rb"[0-9]+")


def looks_like_npy(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be .npy; cheap, and never wrongly False."""
    return nbytes > len(MAGIC) and head.startswith(MAGIC)


def parse_npy(read: Read, nbytes: int) -> Layout:
    """Lay out an .npy file of `nbytes`: of each array the header and the items. Raises NotThisFormat, and what `read`
    raises.
    """
    source = Source(read, nbytes)
    arrays = [find_array(source, 0, "arr_0")]
    end = arrays[0].offset + arrays[0].nbytes
    while end < nbytes and len(arrays) < MAX_ARRAYS:
        try:
            arrays.append(find_array(source, end, f"arr_{len(arrays)}"))
        except NotThisFormat:
            break
        end = arrays[-1].offset + arrays[-1].nbytes
    return tile(FORMAT, arrays, nbytes)


def find_array(source: Source, offset: int, name: str) -> Span:
    """Return where in the file the items lie of the array whose magic string is at `offset` of `source`.

    Raises NotThisFormat if there is none, or if its length cannot be told or is not there.
    """
    if source.take(offset, len(MAGIC)) != MAGIC:
        raise NotThisFormat("no array of NumPy begins here")
    major, minor = source.take(offset + len(MAGIC), 2)
    if minor != 0 or major not in (1, 2, 3):
        raise NotThisFormat(f"version {major}.{minor} of .npy")
    length_nbytes = 2 if major == 1 else 4
    at = offset + len(MAGIC) + 2
    header_nbytes = int.from_bytes(source.take(at, length_nbytes), "little")
    if header_nbytes > MAX_HEADER_NBYTES:
        raise NotThisFormat(f"a header of {header_nbytes} bytes is over the limit of {MAX_HEADER_NBYTES}")
    at += length_nbytes
    dtype, shape = _parse_header(source.take(at, header_nbytes))
    at += header_nbytes
    nbytes = prod(shape) * DTYPES[dtype].block_nbytes
    if nbytes > source.nbytes - at:
        raise NotThisFormat("an array is longer than its file")
    return Span(source.start + at, nbytes, dtype, shape, name)


def _parse_header(header: bytes) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape, in the order of the items in the file."""
    text = header.strip(b" \n")
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise NotThisFormat("the header is not a dict")
    found: dict[bytes, re.Match[bytes]] = {}
    at = 1
    while (member := _MEMBER.match(text, at)) is not None:
        found[member[2]] = member
        at = member.end()
        if text[at : at + 1] != b",":
            break
        at += 1
    if text[at:].strip() != b"}" or len(found) != 3:
        raise NotThisFormat("the header is not descr, fortran_order and shape")
    descr, order, lengths = found[b"descr"][4], found[b"fortran_order"][5], found[b"shape"][6]
    if descr is None or order is None or lengths is None:
        raise NotThisFormat("the header is not descr, fortran_order and shape")
    shape = tuple(int(length) for length in _LENGTH.findall(lengths))
    if max(shape, default=0) >= 1 << 63:
        raise NotThisFormat("an axis of more than 63 bits")
    return _dtype(descr.decode()), _file_order(descr, shape, order == b"True")


def _dtype(descr: str) -> str:
    dtype = _DTYPES.get(descr.lstrip("<>|="))
    if dtype is None or (descr.startswith(">") and DTYPES[dtype].block_nbytes > 1):
        raise NotThisFormat(f"items of type {descr}")
    return dtype


def _file_order(descr: bytes, shape: tuple[int, ...], is_fortran: bool) -> tuple[int, ...]:
    """Return the shape with the axis last that moves fastest in the file; a complex item is an axis of two floats."""
    ordered = shape[::-1] if is_fortran else shape
    return (*ordered, 2) if descr.endswith(b"c16") else ordered
