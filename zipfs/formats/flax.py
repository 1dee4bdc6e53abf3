"""The msgpack container of Flax: one msgpack map, in which arrays lie as extensions.

An array is an extension of type 1 that holds another msgpack value: shape, name of the type, and the items as binary.
Arrays of more than a GiB lie in pieces, each an array of its own. Everything else is plain bytes. Source:
msgpack/msgpack, `spec.md`; google/flax, `flax/serialization.py`.

Pure; any thread may call it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.source import Cursor, Source
from zipfs.formats.tiling import tile

FORMAT: Final = "flax"
MAX_VALUES: Final = 1 << 18
MAX_TENSORS: Final = 1 << 16
MAX_DEPTH: Final = 64
MAX_AXES: Final = 32
MAX_KEY_NBYTES: Final = 1 << 10
MAX_NAMES_LENGTH: Final = 1 << 25
"""Of the names of all containers and arrays together."""

_NDARRAY: Final = 1
_DTYPES: Final = {
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64", "bool": "BOOL", "complex64": "C64",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "int4": "U8", "int2": "U8",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "uint4": "U8", "uint2": "U8",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
"""What NumPy calls a type -> name. Those of less than a byte take one each in an array."""

_INT, _NIL, _STR, _BIN, _ARRAY, _MAP, _EXT, _OTHER = range(8)
_LONG: Final = {
    0xC0: (_NIL, 0), 0xC2: (_OTHER, 0), 0xC3: (_OTHER, 0), 0xC4: (_BIN, 1), 0xC5: (_BIN, 2), 0xC6: (_BIN, 4),
    0xC7: (_EXT, 1), 0xC8: (_EXT, 2), 0xC9: (_EXT, 4), 0xCC: (_INT, 1), 0xCD: (_INT, 2), 0xCE: (_INT, 4),
    0xCF: (_INT, 8), 0xD9: (_STR, 1), 0xDA: (_STR, 2), 0xDB: (_STR, 4), 0xDC: (_ARRAY, 2), 0xDD: (_ARRAY, 4),
    0xDE: (_MAP, 2), 0xDF: (_MAP, 4),
}  # fmt: skip
"""First byte -> kind, and bytes of the number or length behind it."""
_FIXED_NBYTES: Final = {0xCA: 4, 0xCB: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""First byte -> bytes behind it, of floats and numbers with a sign."""
_FIRST_FIXEXT, _LAST_FIXEXT = 0xD4, 0xD8


def looks_like_flax(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be of Flax: a map whose first key is text."""
    if nbytes < 8 or len(head) < 6:
        return False
    key_at = 1 if 0x81 <= head[0] <= 0x8F else {0xDE: 3, 0xDF: 5}.get(head[0], 0)
    return key_at > 0 and (0xA0 <= head[key_at] <= 0xBF or head[key_at] == 0xD9)


def parse_flax(read: Read, nbytes: int) -> Layout:
    """Lay out a file of Flax of `nbytes`: the items of each array, and what lies between them.

    Raises NotThisFormat, with the reason, if the file is anything else or has no array, and whatever `read` raises.
    """
    source = Source(read, nbytes)
    if not looks_like_flax(source.take(0, min(nbytes, 8)), nbytes):
        raise NotThisFormat("no map with text for keys")
    tensors = _Walk(Cursor(source)).tensors()
    if not tensors:
        raise NotThisFormat("a map without an array")
    return tile(FORMAT, tensors, nbytes)


@dataclass(slots=True)
class _Container:
    """A map or array of which `left` values are still to come, keys included; `path` names what is in it."""

    path: str
    is_map: bool
    left: int
    key: str = ""


class _Walk:
    """Steps through all values of a file."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._tensors: list[Span] = []
        self._containers: list[_Container] = []
        self._names_length = 0

    def tensors(self) -> list[Span]:
        """Return the arrays of the value that the file is. Raises NotThisFormat if it is not one, or has too much in
        it.
        """
        cursor, containers = self._cursor, self._containers
        for _ in range(MAX_VALUES):
            self._step()
            while containers and not containers[-1].left:
                containers.pop()
            if not containers:
                if cursor.at != cursor.source.nbytes:
                    raise NotThisFormat("more than one value")
                return self._tensors
        raise NotThisFormat(f"more than {MAX_VALUES} values")

    def _step(self) -> None:
        """Take a value, of containers only the head."""
        kind, number = _take_head(self._cursor)
        parent = self._containers[-1] if self._containers else None
        path = parent.path if parent else ""
        if parent is not None:
            parent.left -= 1
            if parent.is_map and parent.left % 2:
                parent.key = self._take_key(kind, number)
                return
            name = parent.key if parent.is_map else str(parent.left)
            path = f"{path}/{name}" if path else name
        if kind in (_MAP, _ARRAY, _EXT):
            self._names_length += len(path)
            if self._names_length > MAX_NAMES_LENGTH:
                raise NotThisFormat("names that are too long")
        if kind in (_MAP, _ARRAY):
            if len(self._containers) >= MAX_DEPTH:
                raise NotThisFormat(f"more than {MAX_DEPTH} levels")
            self._containers.append(_Container(path, kind == _MAP, number * (2 if kind == _MAP else 1)))
        elif kind == _EXT:
            self._take_extension(number, path)
        elif kind in (_STR, _BIN):
            self._cursor.skip(number)

    def _take_key(self, kind: int, number: int) -> str:
        if kind == _STR and number <= MAX_KEY_NBYTES:
            return self._cursor.take(number).decode("utf-8", "replace")
        if kind == _INT:
            return str(number)
        raise NotThisFormat("a key that is neither text nor a number")

    def _take_extension(self, nbytes: int, path: str) -> None:
        code = self._cursor.uint(1)
        begin = self._cursor.at
        self._cursor.skip(nbytes)
        if code == _NDARRAY and len(self._tensors) < MAX_TENSORS:
            try:
                span = _array(self._cursor.source, begin, begin + nbytes, path)
            except NotThisFormat:
                return
            if span is not None:
                self._tensors.append(span)


def _take_head(cursor: Cursor) -> tuple[int, int]:
    """Take the first bytes of a value; return its kind and its number or length."""
    first = cursor.uint(1)
    if first < 0x80:
        return _INT, first
    if first < 0x90:
        return _MAP, first & 15
    if first < 0xA0:
        return _ARRAY, first & 15
    if first < 0xC0:
        return _STR, first & 31
    if first >= 0xE0:
        return _OTHER, 0
    if _FIRST_FIXEXT <= first <= _LAST_FIXEXT:
        return _EXT, 1 << (first - _FIRST_FIXEXT)
    if first in _FIXED_NBYTES:
        cursor.skip(_FIXED_NBYTES[first])
        return _OTHER, 0
    if first not in _LONG:
        raise NotThisFormat("a byte that begins no value")
    kind, width = _LONG[first]
    return kind, cursor.uint(width, "big") if width else 0


def _array(source: Source, begin: int, end: int, name: str) -> Span | None:
    """Return where the items lie of the array that an extension holds; None if its type is none of ours."""
    cursor = Cursor(source, begin)
    if _take_head(cursor) != (_ARRAY, 3):
        raise NotThisFormat("an array of other than three parts")
    kind, count = _take_head(cursor)
    if kind != _ARRAY or count > MAX_AXES:
        raise NotThisFormat("an array without a shape")
    axes = [_take_head(cursor) for _ in range(count)]
    kind, length = _take_head(cursor)
    if kind != _STR or length > MAX_KEY_NBYTES or any(axis_kind != _INT for axis_kind, _ in axes):
        raise NotThisFormat("an array without a type")
    dtype = _DTYPES.get(cursor.take(length).decode("utf-8", "replace"))
    kind, nbytes = _take_head(cursor)
    if kind not in (_BIN, _STR) or cursor.at + nbytes != end:
        raise NotThisFormat("an array whose items do not fill it")
    shape = tuple(length for _, length in axes)
    if dtype is None or prod(shape) * DTYPES[dtype].block_nbytes != nbytes:
        return None
    return Span(cursor.skip(nbytes), nbytes, dtype, shape, name)
