"""The GGUF container, versions 1 to 3: metadata, descriptions of tensors, the tensors.

Takes what ggml's `gguf.cpp` and the `gguf` package take, and also what only one of them takes: arrays inside arrays,
tensors in any order with holes between them, names longer than ggml's 64 bytes. Source: ggml-org/ggml,
`docs/gguf.md`, `src/gguf.cpp`, `include/ggml.h`; version 1 has 32 bits wherever the later ones have 64 for a length.

A tensor of a type that ggml no longer has is a tensor of bytes, and so is a big-endian one unless its items are single
bytes. One of a type that is not known here is a tensor of bytes, too, and goes on to where the next one begins.

Stricter than the packages, so that a hostile header stays cheap: the limits below. A file beyond them is kept as
opaque. Pure; any thread may call it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import Final

import numpy as np

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.tiling import tile

FORMAT: Final = "gguf"
MAGIC: Final = b"GGUF"
VERSIONS: Final = (1, 2, 3)
MAX_METADATA_NBYTES: Final = 1 << 30
MAX_TENSORS: Final = 1 << 18
MAX_KEYS: Final = 1 << 16
MAX_NAME_NBYTES: Final = 1 << 16
MAX_AXES: Final = 64
MAX_ITEMS: Final = 1 << 22
"""Strings and arrays inside arrays of one file, each of which takes a step; vocabularies have a million."""
MAX_DEPTH: Final = 16
"""Arrays inside one another."""

_DEFAULT_ALIGNMENT: Final = 32
_ALIGNMENT_KEY: Final = b"general.alignment"
_PIECE_NBYTES: Final = 1 << 18
_MANY_STRINGS: Final = 256
"""From here on it is quicker to look at them all at once."""
_VERSION_END: Final = len(MAGIC) + 4

_UINT32: Final = 4
_STRING: Final = 8
_ARRAY: Final = 9
_VALUE_NBYTES: Final = {0: 1, 1: 1, 2: 2, 3: 2, _UINT32: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a metadata value -> bytes, of those that are always as long."""

_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0",
}  # fmt: skip
"""Number of a type -> its name, of every type of ggml.h."""

_REMOVED_TYPES: Final = {
    4: (16, 10), 5: (16, 12), 31: (32, 18), 32: (32, 18), 33: (32, 18), 36: (32, 18), 37: (32, 18), 38: (32, 18),
}  # fmt: skip
"""Number of a type that ggml.h had once -> weights and bytes of its blocks: Q4_2, Q4_3, and those of Q4_0 and IQ4_NL
with several rows interleaved."""

_UNKNOWN: Final = -1
_OF_SINGLE_BYTES: Final = ("I8", "MXFP4", "NVFP4")
"""Types that are the same in either byte order."""


def looks_like_gguf(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be GGUF; cheap, and never wrongly False."""
    version = head[len(MAGIC) : _VERSION_END]
    return head.startswith(MAGIC) and any(int.from_bytes(version, order) in VERSIONS for order in ("little", "big"))


def parse_gguf(read: Read, nbytes: int) -> Layout:
    """Lay out a GGUF file of `nbytes`: each tensor that is not empty, and what lies before, between and behind them.

    Raises NotThisFormat, with the reason, if the file is anything else, and whatever `read` raises. Memory: a piece of
    the header, and some hundred bytes for each key and each tensor.
    """
    head = read(0, min(nbytes, _VERSION_END))
    if not looks_like_gguf(head, nbytes) or len(head) < _VERSION_END:
        raise NotThisFormat("no GGUF of a known version")
    is_big_endian = int.from_bytes(head[len(MAGIC) :], "little") not in VERSIONS
    version = int.from_bytes(head[len(MAGIC) :], "big" if is_big_endian else "little")
    cursor = _Cursor(read, nbytes, is_big_endian, length_nbytes=4 if version == 1 else 8)
    count, keys = cursor.length(), cursor.length()
    if count > MAX_TENSORS or keys > MAX_KEYS:
        raise NotThisFormat(f"{count} tensors and {keys} keys are over the limits of {MAX_TENSORS} and {MAX_KEYS}")
    alignment = _skip_metadata(cursor, keys)
    tensors = [_parse_tensor(cursor, is_big_endian) for _ in range(count)]
    data_offset = -(-cursor.position // alignment) * alignment
    return tile(FORMAT, _with_lengths(tensors, data_offset, nbytes), nbytes)


class _Cursor:
    """A position in the header, of which a piece is in memory."""

    __slots__ = ("_at", "_items", "_length", "_nbytes", "_offset", "_order", "_piece", "_read", "_uint32")

    def __init__(self, read: Read, nbytes: int, is_big_endian: bool, length_nbytes: int) -> None:
        self._read = read
        self._nbytes = nbytes
        self._order = ">" if is_big_endian else "<"
        self._length = Struct(self._order + ("Q" if length_nbytes == 8 else "I"))
        self._uint32 = Struct(self._order + "I")
        self._offset = _VERSION_END
        self._piece = b""
        self._at = 0
        self._items = 0

    @property
    def position(self) -> int:
        """Bytes from the start of the file."""
        return self._offset + self._at

    def skip(self, nbytes: int) -> None:
        """Step over `nbytes`, of which nothing is read."""
        self._at += nbytes
        if self.position > min(self._nbytes, MAX_METADATA_NBYTES):
            raise NotThisFormat("the header goes on behind the end of the file, or is over the limit")

    def take(self, nbytes: int) -> bytes:
        """Take the next `nbytes`."""
        at = self._need(nbytes)
        self._at = at + nbytes
        return self._piece[at : self._at]

    def uint32(self) -> int:
        """Take the next number of 32 bits."""
        number: int = self._unpack(self._uint32)[0]
        return number

    def length(self) -> int:
        """Take the next length."""
        number: int = self._unpack(self._length)[0]
        return number

    def string(self) -> bytes:
        """Take the next string. Raises NotThisFormat if it is longer than a name may be."""
        length = self.length()
        if length > MAX_NAME_NBYTES:
            raise NotThisFormat(f"a name of more than {MAX_NAME_NBYTES} bytes")
        return self.take(length)

    def skip_strings(self, count: int) -> None:
        """Step over `count` strings."""
        self.count_items(count)
        unpack, head_nbytes = self._length.unpack_from, self._length.size
        while count:
            at = self._need(head_nbytes)
            piece, last = self._piece, len(self._piece) - head_nbytes
            if count >= _MANY_STRINGS:
                at, skipped = _skip_short_strings(piece, at, count, head_nbytes, self._order == ">")
                count -= skipped
            while count and at <= last:
                at += head_nbytes + unpack(piece, at)[0]
                count -= 1
            self._at = 0
            self.skip(at)

    def count_items(self, count: int) -> None:
        """Raise NotThisFormat if these are more items than the arrays of one file may have in all."""
        self._items += count
        if self._items > MAX_ITEMS:
            raise NotThisFormat(f"more than {MAX_ITEMS} strings and arrays in arrays")

    def description(self, naxes: int) -> tuple[int, ...]:
        """Take the lengths of `naxes` axes, a type and an offset."""
        return self._unpack(Struct(f"{self._order}{naxes}{self._length.format[-1]}IQ"))

    def _unpack(self, fields: Struct) -> tuple[int, ...]:
        at = self._need(fields.size)
        self._at = at + fields.size
        return fields.unpack_from(self._piece, at)

    def _need(self, nbytes: int) -> int:
        """Have the next `nbytes` in memory, and return where in the piece they begin."""
        if self._at + nbytes > len(self._piece):
            offset = self.position
            if offset + nbytes > min(self._nbytes, MAX_METADATA_NBYTES):
                raise NotThisFormat("the header goes on behind the end of the file, or is over the limit")
            wanted = min(max(nbytes, _PIECE_NBYTES), self._nbytes - offset)
            self._offset, self._at, self._piece = offset, 0, self._read(offset, wanted)
            if len(self._piece) < nbytes:
                raise NotThisFormat("the file is shorter than was said")
        return self._at


def _skip_short_strings(piece: bytes, at: int, count: int, head_nbytes: int, is_big_endian: bool) -> tuple[int, int]:
    """Step over strings of less than 256 bytes in `piece`, `count` at most, all at once.

    Returns where the first one begins that is left, and how many were stepped over: those before the first that is
    longer, or empty, or lies partly behind the piece. Wherever a length can be, all bytes but one are zeros; if each
    such place is as far from the last as that one's length says, then these are the lengths.
    """
    content = np.frombuffer(piece, np.uint8, offset=at)
    zeros = content == 0
    runs = zeros[: max(0, len(zeros) - head_nbytes + 2)].copy()
    for shift in range(1, head_nbytes - 1):
        runs &= zeros[shift : shift + len(runs)]
    starts = np.flatnonzero(runs) - (0 if is_big_endian else 1)
    low = head_nbytes - 1 if is_big_endian else 0
    starts = starts[np.searchsorted(starts, 0) :][:count]
    starts = starts[: np.searchsorted(starts, len(content) - low)]
    if not len(starts) or starts[0]:
        return at, 0
    ends = starts + head_nbytes + content[starts + low]
    wrong = np.flatnonzero(ends[:-1] != starts[1:])
    skipped = int(wrong[0]) + 1 if len(wrong) else len(starts)
    return at + int(ends[skipped - 1]), skipped


def _skip_metadata(cursor: _Cursor, keys: int) -> int:
    """Step over all keys and their values, and return the alignment that they tell."""
    alignment = _DEFAULT_ALIGNMENT
    seen = set()
    for _ in range(keys):
        key = cursor.string()
        if key in seen:
            raise NotThisFormat("two values of one key")
        seen.add(key)
        kind = cursor.uint32()
        if key == _ALIGNMENT_KEY:
            if kind != _UINT32:
                raise NotThisFormat("an alignment that is no number of 32 bits")
            alignment = cursor.uint32()
        elif kind == _ARRAY:
            _skip_array(cursor, 1)
        elif kind == _STRING:
            cursor.skip(cursor.length())
        else:
            cursor.skip(_value_nbytes(kind))
    if alignment.bit_count() != 1:
        raise NotThisFormat(f"an alignment of {alignment}, which is no power of two")
    return alignment


def _skip_array(cursor: _Cursor, depth: int) -> None:
    kind, count = cursor.uint32(), cursor.length()
    if kind == _STRING:
        cursor.skip_strings(count)
    elif kind != _ARRAY:
        cursor.skip(count * _value_nbytes(kind))
    elif depth == MAX_DEPTH:
        raise NotThisFormat(f"more than {MAX_DEPTH} arrays inside one another")
    else:
        cursor.count_items(count)
        for _ in range(count):
            _skip_array(cursor, depth + 1)


def _value_nbytes(kind: int) -> int:
    nbytes = _VALUE_NBYTES.get(kind)
    if nbytes is None:
        raise NotThisFormat(f"a value of the unknown type {kind}")
    return nbytes


def _parse_tensor(cursor: _Cursor, is_big_endian: bool) -> Span:
    """Take a description. The span counts from the first tensor, and has no bytes where they are not known."""
    try:
        name = cursor.string().decode()
    except UnicodeDecodeError as error:
        raise NotThisFormat("the name of a tensor is not UTF-8") from error
    naxes = cursor.uint32()
    if naxes > MAX_AXES:
        raise NotThisFormat(f"a tensor of {naxes} axes")
    *axes, number, offset = cursor.description(naxes)
    weights = math.prod(axes)
    dtype = _TYPES.get(number, "")
    block_weights, block_nbytes = _REMOVED_TYPES.get(number, (0, 0))
    if dtype:
        block_weights, block_nbytes = DTYPES[dtype].block_weights, DTYPES[dtype].block_nbytes
    if weights and (not block_weights or (axes[0] if axes else 1) % block_weights):
        return Span(offset, _UNKNOWN, "U8", (), name)
    nbytes = weights // block_weights * block_nbytes if weights else 0
    if not dtype or (is_big_endian and dtype not in _OF_SINGLE_BYTES):
        return Span(offset, nbytes, "U8", (nbytes,), name)
    # The fastest axis comes first in the file, and last in every other container.
    return Span(offset, nbytes, dtype, tuple(reversed(axes)), name)


def _with_lengths(tensors: list[Span], data_offset: int, nbytes: int) -> Iterator[Span]:
    """Give where in the file the tensors lie; those of unknown length reach to where the next one begins."""
    ends = sorted({nbytes, *(data_offset + tensor.offset for tensor in tensors if tensor.nbytes)})
    for tensor in tensors:
        offset, shape, length = data_offset + tensor.offset, tensor.shape, tensor.nbytes
        if length == _UNKNOWN:
            behind = bisect_right(ends, offset)
            length = ends[behind] - offset if behind < len(ends) else 0
            shape = (length,)
        yield Span(offset, length, tensor.dtype, shape, tensor.name)
