"""Owns where the entries of a zip archive lie in a file: the central directory, read from its end, and local headers.

Strict: an archive is taken only if its end record is the last thing in it, its directory says exactly what it says it
says, every local header agrees with the directory, and no two entries overlap. Archive comments, archives of several
disks and extensible end records are refused. Nothing is decoded. Zip64 is known. What may lie before an archive is
left to the caller: a run of archives is read from its last one back to its first.

Source: PKWARE's APPNOTE.TXT 6.3. Pure; any thread may call it.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Read

LOCAL_SIGNATURE: Final = b"PK\3\4"
MAX_ENTRIES: Final = 1 << 18
MAX_DIRECTORY_NBYTES: Final = 1 << 26

_TAIL_NBYTES: Final = 4096
"""How much is read for the end record: the whole directory of a small archive comes with it."""
_END = Struct("<4sHHHHIIH")
_END_SIGNATURE: Final = b"PK\5\6"
_LOCATOR = Struct("<4sIQI")
_LOCATOR_SIGNATURE: Final = b"PK\6\7"
_END64 = Struct("<4sQHHIIQQQQ")
_END64_SIGNATURE: Final = b"PK\6\6"
_END64_COUNTED_NBYTES: Final = _END64.size - 12
_CENTRAL = Struct("<4s4xHH4xIIIHHHH6xI")
_CENTRAL_SIGNATURE: Final = b"PK\1\2"
_LOCAL = Struct("<4s2xHH4xIIIHH")
_EXTRA_HEADER = Struct("<HH")
_ZIP64_EXTRA: Final = 1
_UNKNOWN16: Final = 0xFFFF
_UNKNOWN32: Final = 0xFFFF_FFFF
_IS_ENCRYPTED: Final = 1 | 1 << 6 | 1 << 13
_HAS_DESCRIPTOR: Final = 1 << 3
_IS_UTF8: Final = 1 << 11
_STORED: Final = 0


@dataclass(frozen=True, slots=True)
class Member:
    """An entry as the directory has it. `header_offset` counts from the start of the file, not of the archive.

    `nbytes` is what it takes in the file, `decoded_nbytes` what becomes of that. Only if `is_stored` are these the
    same bytes; else they are deflated, encrypted, or coded in some other way.
    """

    name: str
    spelled_name: bytes
    header_offset: int
    nbytes: int
    decoded_nbytes: int
    crc32: int
    flags: int
    method: int

    @property
    def is_stored(self) -> bool:
        return self.method == _STORED and not self.flags & _IS_ENCRYPTED


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory of an archive that takes [start, end) of a file; `offset` is where it lies itself.

    Members are in the order of the directory; no two have one name.
    """

    start: int
    offset: int
    end: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the bytes of a member lie in the file."""

    name: str
    offset: int
    nbytes: int
    is_stored: bool


def looks_like_zip(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be a zip archive with at least one entry."""
    return head.startswith(LOCAL_SIGNATURE) and nbytes >= _LOCAL.size + _CENTRAL.size + _END.size


def read_directory(read: Read, end: int) -> Directory:
    """Read the directory of the archive that ends at `end`, by one or two calls of `read`. Local headers are not read.

    Raises NotThisFormat, with the reason, and whatever `read` raises.
    """
    tail_offset = max(0, end - _TAIL_NBYTES)
    tail = _read_exactly(read, tail_offset, end - tail_offset)
    count, directory_nbytes, relative_offset, directory_end = _parse_end(tail, tail_offset)
    if count > MAX_ENTRIES or directory_nbytes > MAX_DIRECTORY_NBYTES:
        raise NotThisFormat(f"a directory of {count} entries and {directory_nbytes} bytes")
    offset = directory_end - directory_nbytes
    start = offset - relative_offset
    if start < 0:
        raise NotThisFormat("the directory lies before the file")
    if offset >= tail_offset:
        content = tail[offset - tail_offset : directory_end - tail_offset]
    else:
        content = _read_exactly(read, offset, directory_nbytes)
    members = _parse_central(content, count, start)
    if len({member.name for member in members}) != count:
        raise NotThisFormat("two entries of one name")
    return Directory(start, offset, end, members)


def locate(read: Read, directory: Directory) -> tuple[Entry, ...]:
    """Read the local header of every member and return where their bytes lie, in the order of the file.

    Raises NotThisFormat if one disagrees with the directory, overlaps another, or leaves the archive.
    """
    entries: list[Entry] = []
    end = directory.start
    for member in sorted(directory.members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise NotThisFormat("two entries overlap")
        offset = _data_offset(read, member, directory.offset)
        end = offset + member.nbytes
        if end > directory.offset:
            raise NotThisFormat("an entry runs into the directory")
        entries.append(Entry(member.name, offset, member.nbytes, member.is_stored))
    return tuple(entries)


def _read_exactly(read: Read, offset: int, nbytes: int) -> bytes:
    content = read(offset, nbytes)
    if len(content) != nbytes:
        raise NotThisFormat("the file is shorter than was said")
    return content


def _parse_end(tail: bytes, tail_offset: int) -> tuple[int, int, int, int]:
    """Return number of entries, bytes of the directory, its offset in the archive, and its end in the file."""
    at = len(tail) - _END.size
    if at < 0:
        raise NotThisFormat("too short for an end record")
    signature, disk, first_disk, disk_count, count, nbytes, offset, comment_nbytes = _END.unpack_from(tail, at)
    if signature != _END_SIGNATURE or comment_nbytes:
        raise NotThisFormat("no end record at the end")
    if disk or first_disk or disk_count != count:
        raise NotThisFormat("an archive of several disks")
    locator_at = at - _LOCATOR.size
    if locator_at < _END64.size or not tail.startswith(_LOCATOR_SIGNATURE, locator_at):
        return count, nbytes, offset, tail_offset + at
    _, first_disk, end64_offset, disks = _LOCATOR.unpack_from(tail, locator_at)
    at = locator_at - _END64.size
    signature, counted, _, _, disk, directory_disk, disk_count, count64, nbytes64, offset64 = _END64.unpack_from(
        tail, at
    )
    if signature != _END64_SIGNATURE or counted != _END64_COUNTED_NBYTES:
        raise NotThisFormat("no zip64 end record where it should be")
    if first_disk or disks != 1 or disk or directory_disk or disk_count != count64:
        raise NotThisFormat("an archive of several disks")
    if end64_offset != offset64 + nbytes64:
        raise NotThisFormat("the zip64 end record does not follow the directory")
    for short, long, unknown in (
        (count, count64, _UNKNOWN16),
        (nbytes, nbytes64, _UNKNOWN32),
        (offset, offset64, _UNKNOWN32),
    ):
        if short not in (long, unknown):
            raise NotThisFormat("two end records that differ")
    return count64, nbytes64, offset64, tail_offset + at


def _parse_central(content: bytes, count: int, start: int) -> tuple[Member, ...]:
    """Parse all of a directory: `count` records that fill `content`."""
    members: list[Member] = []
    at, unpack = 0, _CENTRAL.unpack_from
    for _ in range(count):
        if at + _CENTRAL.size > len(content):
            raise NotThisFormat("a directory that is cut off")
        (
            signature,
            flags,
            method,
            crc32,
            nbytes,
            decoded_nbytes,
            name_nbytes,
            extra_nbytes,
            comment_nbytes,
            disk,
            offset,
        ) = unpack(content, at)
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_nbytes
        at = extra_at + extra_nbytes + comment_nbytes
        if signature != _CENTRAL_SIGNATURE or at > len(content) or disk:
            raise NotThisFormat("a directory of something else")
        if _UNKNOWN32 in (decoded_nbytes, nbytes, offset):
            extra = content[extra_at : extra_at + extra_nbytes]
            decoded_nbytes, nbytes, offset = _widen(extra, (decoded_nbytes, nbytes, offset))
        if method == _STORED and nbytes != decoded_nbytes and not flags & _IS_ENCRYPTED:
            raise NotThisFormat("a stored entry of two sizes")
        spelled = content[name_at:extra_at]
        name = _decoded(spelled, flags)
        members.append(Member(name, spelled, start + offset, nbytes, decoded_nbytes, crc32, flags, method))
    if at != len(content):
        raise NotThisFormat("more bytes in the directory than entries")
    return tuple(members)


def _decoded(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8" if flags & _IS_UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise NotThisFormat("a name that is not UTF-8") from error


def _data_offset(read: Read, member: Member, end: int) -> int:
    """Return where the bytes of a member begin: length of name and extra fields may differ from the directory's."""
    wanted = _LOCAL.size + len(member.spelled_name)
    if member.header_offset + wanted > end:
        raise NotThisFormat("a local header beyond the directory")
    header = _read_exactly(read, member.header_offset, wanted)
    signature, flags, method, crc32, nbytes, decoded_nbytes, name_nbytes, extra_nbytes = _LOCAL.unpack_from(header)
    if (
        signature != LOCAL_SIGNATURE
        or flags != member.flags
        or method != member.method
        or name_nbytes != len(member.spelled_name)
        or header[_LOCAL.size :] != member.spelled_name
    ):
        raise NotThisFormat("a local header that disagrees with the directory")
    offset = member.header_offset + wanted + int(extra_nbytes)
    if flags & _HAS_DESCRIPTOR:
        return offset
    if _UNKNOWN32 in (decoded_nbytes, nbytes):
        extra = _read_exactly(read, member.header_offset + wanted, extra_nbytes)
        decoded_nbytes, nbytes = _widen(extra, (decoded_nbytes, nbytes))
    if (nbytes, decoded_nbytes, crc32) != (member.nbytes, member.decoded_nbytes, member.crc32):
        raise NotThisFormat("a local header of another size")
    return offset


def _widen(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """Replace each value that does not fit 32 bits by the one that the zip64 field has for it, in their order.

    Without such a field they are what they seem.
    """
    at = 0
    while at + _EXTRA_HEADER.size <= len(extra):
        kind, nbytes = _EXTRA_HEADER.unpack_from(extra, at)
        at += _EXTRA_HEADER.size
        if kind == _ZIP64_EXTRA:
            return _widened(extra[at : at + nbytes], values)
        at += nbytes
    return values


def _widened(field: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    wide: list[int] = []
    at = 0
    for value in values:
        if value == _UNKNOWN32:
            if at + 8 > len(field):
                raise NotThisFormat("a zip64 field that is too short")
            wide.append(int.from_bytes(field[at : at + 8], "little"))
            at += 8
        else:
            wide.append(value)
    return tuple(wide)
