"""The safetensors container: eight bytes of length, a JSON header, the tensors.

Accepts what `safetensors.deserialize` of the safetensors package 0.8 accepts, rule by rule, with the exceptions below;
`safe_open` and `load_file` run the same checks. Source: huggingface/safetensors, `safetensors/src/tensor.rs`
(`read_metadata`, `HashMetadata`, `Metadata::validate`), serde_derive's flattened structs, and serde_json. Some of what
that code accepts is surprising and is kept: white space before the header's `{`, a tensor described by an array
`[dtype, shape, data_offsets]`, a dtype spelled `{"F32": null}`, unknown fields, and a tensor name that repeats (the
last one counts, but each must be well formed).

Stricter than the package, so that a hostile header stays cheap; a file beyond these limits is kept as opaque:
at most MAX_TENSORS entries, MAX_NAME_NBYTES in a name, and what `header_json` limits (axes, unknown fields, numbers).

Pure; any thread may call it.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

from zipfs.dtypes import SAFETENSORS_DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.header_json import Cursor
from zipfs.formats.layout import Layout, Read, Span

FORMAT: Final = "safetensors"
LENGTH_NBYTES: Final = 8
MAX_HEADER_NBYTES: Final = 100_000_000
MAX_TENSORS: Final = 1 << 18
MAX_NAME_NBYTES: Final = 1 << 16

_INTERNED = {name: name for name in SAFETENSORS_DTYPES}
_BITS = {name: int(dtype.bits) for name, dtype in SAFETENSORS_DTYPES.items()}
_USIZE_END = 1 << 64
_METADATA_KEY = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_SMALLEST_HEADER = len("{}")
_CHUNK_NBYTES = 1 << 20
_ENTRY_DEPTH = 2


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def looks_like_safetensors(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be safetensors; cheap, and never wrongly False.

    `head` holds the first bytes of the file, at least nine unless the file is shorter.
    """
    if nbytes < LENGTH_NBYTES + _SMALLEST_HEADER or len(head) <= LENGTH_NBYTES:
        return False
    length = int.from_bytes(head[:LENGTH_NBYTES], "little")
    if not _SMALLEST_HEADER <= length <= min(MAX_HEADER_NBYTES, nbytes - LENGTH_NBYTES):
        return False
    return head[LENGTH_NBYTES : LENGTH_NBYTES + length].lstrip(b" \t\n\r")[:1] in (b"{", b"")


def parse_safetensors(read: Read, nbytes: int) -> Layout:
    """Lay out a safetensors file of `nbytes`: the header, length included, then each tensor that is not empty.

    Raises NotThisFormat, with the reason, if the file is anything else, and whatever `read` raises. Memory: the header
    (at most 100 MB) and some hundred bytes per tensor.
    """
    if nbytes < LENGTH_NBYTES:
        raise NotThisFormat("too short for the length of a header")
    length = int.from_bytes(_read_exactly(read, 0, LENGTH_NBYTES), "little")
    if length > MAX_HEADER_NBYTES:
        raise NotThisFormat(f"a header of {length} bytes is over the limit of {MAX_HEADER_NBYTES}")
    if length > nbytes - LENGTH_NBYTES:
        raise NotThisFormat(f"a header of {length} bytes in a file of {nbytes}")
    header = _read_exactly(read, LENGTH_NBYTES, length)
    _check_utf8(header)
    data_offset = LENGTH_NBYTES + length
    spans = [Span(0, data_offset, "", (), None)]
    entries = _parse_header(header)
    del header
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise NotThisFormat("tensors overlap or leave a hole")
        if entry.end - entry.begin != _tensor_nbytes(entry):
            raise NotThisFormat("the bytes of a tensor do not match its dtype and shape")
        end = entry.end
        if end > entry.begin:
            spans.append(Span(data_offset + entry.begin, end - entry.begin, entry.dtype, entry.shape, name))
    if data_offset + end != nbytes:
        raise NotThisFormat(f"tensors end at byte {data_offset + end} of a file of {nbytes}")
    return Layout(FORMAT, tuple(spans))


def _read_exactly(read: Read, offset: int, nbytes: int) -> bytes:
    content = read(offset, nbytes)
    if len(content) != nbytes:
        raise NotThisFormat("the file is shorter than was said")
    return content


def _check_utf8(header: bytes) -> None:
    """Decode piece by piece: the text of a whole header takes up to four times its bytes. Raises NotThisFormat."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(header), _CHUNK_NBYTES):
            decoder.decode(header[start : start + _CHUNK_NBYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise NotThisFormat("the header is not UTF-8") from error


def _parse_header(header: bytes) -> dict[str, _Entry]:
    """Return tensors by name, unchecked but for their form; of two with one name the last, as in the package."""
    cursor = Cursor(header)
    entries: dict[str, _Entry] = {}
    count = 0
    has_metadata = False
    cursor.expect(b"{")
    more = not cursor.accept(b"}")
    while more:
        name = cursor.key(MAX_NAME_NBYTES)
        if name == _METADATA_KEY:
            if has_metadata:
                raise NotThisFormat("two metadata objects")
            has_metadata = True
            if not cursor.accept_null():
                cursor.skip_strings()
        else:
            count += 1
            if count > MAX_TENSORS:
                raise NotThisFormat(f"more than {MAX_TENSORS} tensors")
            entries[name] = _parse_row(cursor) if cursor.accept(b"[") else _parse_object(cursor)
        more = cursor.accept(b",")
        if not more:
            cursor.expect(b"}")
    cursor.finish()
    return entries


def _parse_row(cursor: Cursor) -> _Entry:
    """Take the rest of `[dtype, shape, data_offsets]`."""
    dtype = _parse_dtype(cursor)
    cursor.expect(b",")
    shape = cursor.unsigneds()
    cursor.expect(b",")
    offsets = cursor.unsigneds()
    cursor.expect(b"]")
    return _entry(dtype, shape, offsets)


def _parse_object(cursor: Cursor) -> _Entry:
    cursor.expect(b"{")
    dtype = ""
    shape: tuple[int, ...] | None = None
    offsets: tuple[int, ...] | None = None
    more = not cursor.accept(b"}")
    while more:
        field = cursor.key(MAX_NAME_NBYTES)
        if field == "dtype" and not dtype:
            dtype = _parse_dtype(cursor)
        elif field == "shape" and shape is None:
            shape = cursor.unsigneds()
        elif field == "data_offsets" and offsets is None:
            offsets = cursor.unsigneds()
        elif field in _FIELDS:
            raise NotThisFormat(f"two {field} in one tensor")
        else:
            cursor.skip(_ENTRY_DEPTH)
        more = cursor.accept(b",")
        if not more:
            cursor.expect(b"}")
    if not dtype or shape is None or offsets is None:
        raise NotThisFormat("a tensor lacks its dtype, shape or offsets")
    return _entry(dtype, shape, offsets)


def _entry(dtype: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> _Entry:
    if len(offsets) != 2:
        raise NotThisFormat("data_offsets is not a pair")
    return _Entry(dtype, shape, *offsets)


def _parse_dtype(cursor: Cursor) -> str:
    wrapped = cursor.accept(b"{")
    name = cursor.string(MAX_NAME_NBYTES)
    dtype = _INTERNED.get(name)
    if dtype is None:
        raise NotThisFormat(f"unknown dtype {name[:32]}")
    if wrapped:
        cursor.expect(b":")
        if not cursor.accept_null():
            raise NotThisFormat("a dtype with a value")
        cursor.expect(b"}")
    return dtype


def _tensor_nbytes(entry: _Entry) -> int:
    """Multiply in the order of the shape: as in the package, a zero saves only what follows it from overflow."""
    nitems = 1
    for length in entry.shape:
        nitems *= length
        if nitems >= _USIZE_END:
            raise NotThisFormat("a tensor of too many items")
    nbits = nitems * _BITS[entry.dtype]
    if nbits >= _USIZE_END or nbits % 8:
        raise NotThisFormat("a tensor of too many items, or not of whole bytes")
    return nbits // 8
