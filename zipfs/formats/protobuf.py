"""The fields of a protobuf message that lies in a file, one after the other, without what is in them.

Takes the wire format as protobuf itself does, but for groups, which nothing has used since proto3. Source:
protobuf.dev, "Encoding". Pure; a reader belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from zipfs.errors import NotThisFormat
from zipfs.formats.source import Source

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_MAX_HEAD_NBYTES: Final = 15
"""A tag of 32 bits and a number of 64."""
_MAX_VARINT_NBYTES: Final = 10
_PIECE_NBYTES: Final = 256
"""What is looked at together; the source has read more than that."""
_FIXED_NBYTES: Final = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """A field: the number of a VARINT, or where the bytes of any other lie in the source."""

    number: int
    wire_type: int
    value: int
    offset: int
    nbytes: int


class FieldReader:
    """Reads fields, at most `budget` of them in all messages together, so that a hostile file stays cheap."""

    __slots__ = ("_source", "left")

    def __init__(self, source: Source, budget: int) -> None:
        self._source = source
        self.left = budget

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message that takes [begin, end) of the source.

        Raises NotThisFormat where that is none, or where the budget ends.
        """
        at = piece_end = begin
        piece, piece_begin = b"", begin
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise NotThisFormat("more fields than are looked at")
            if at + _MAX_HEAD_NBYTES > piece_end and piece_end < end:
                piece = self._source.take(at, min(_PIECE_NBYTES, end - at))
                piece_begin, piece_end = at, at + len(piece)
            used = at - piece_begin
            tag, used = decode_varint(piece, used)
            number, wire_type = tag >> 3, tag & 7
            value = nbytes = 0
            if wire_type == BYTES:
                nbytes, used = decode_varint(piece, used)
            elif wire_type == VARINT:
                value, used = decode_varint(piece, used)
            elif wire_type in _FIXED_NBYTES:
                nbytes = _FIXED_NBYTES[wire_type]
            else:
                raise NotThisFormat(f"wire type {wire_type}")
            offset = piece_begin + used
            at = offset + nbytes
            if number == 0 or at > end:
                raise NotThisFormat("a field that is none, or longer than its message")
            yield Field(number, wire_type, value, offset, nbytes)
            if at > piece_end:
                piece_begin = piece_end = at


def decode_varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and where it ends."""
    byte = content[at] if at < len(content) else 0x80
    if byte < 0x80:
        return byte, at + 1
    number = shift = 0
    for position in range(at, min(at + _MAX_VARINT_NBYTES, len(content))):
        byte = content[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, position + 1
        shift += 7
    raise NotThisFormat("a number that does not end")
