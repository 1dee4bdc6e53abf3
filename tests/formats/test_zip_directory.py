"""The directory reader finds the bytes that Python's zipfile finds, and refuses an archive that contradicts itself."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipfs.errors import NotThisFormat
from zipfs.formats.zip_directory import MAX_ENTRIES, Entry, locate, looks_like_zip, read_directory

CONTENTS: Final = {"model/data.pkl": b"\x80\x02}.", "model/data/0": bytes(range(200)), "model/ü": b"", "z": b"z" * 5000}


class Unseekable(io.RawIOBase):
    """A pipe: what is written to it has its sizes in data descriptors."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.content += data
        return len(data)


def archive(
    contents: dict[str, bytes] = CONTENTS,
    method: int = zipfile.ZIP_STORED,
    force_zip64: bool = False,
    extra: bytes = b"",
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.extra = method, extra
            with made.open(info, "w", force_zip64=force_zip64) as entry:
                entry.write(content)
    return out.getvalue()


def piped() -> bytes:
    pipe = Unseekable()
    with zipfile.ZipFile(pipe, "w") as made:
        for name, content in CONTENTS.items():
            made.writestr(name, content)
    return bytes(pipe.content)


def with_zip64_end(content: bytes) -> bytes:
    """Add the records that an archive of 4 GiB has, as torch.save does to every one."""
    *_, count, nbytes, offset, _ = struct.unpack("<4sHHHHIIH", content[-22:])
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0, 45, 0, 0, count, count, nbytes, offset)
    return content[:-22] + end64 + struct.pack("<4sIQI", b"PK\6\7", 0, len(content) - 22, 1) + content[-22:]


def reader(content: bytes) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        return content[offset : offset + length]

    return read


def located(content: bytes, end: int | None = None) -> tuple[Entry, ...]:
    read = reader(content)
    return locate(read, read_directory(read, len(content) if end is None else end))


def stored(content: bytes) -> dict[str, bytes]:
    return {e.name: content[e.offset : e.offset + e.nbytes] for e in located(content) if e.is_stored}


GOOD: Final = {
    "stored": archive(),
    "one-empty": archive({"": b""}),
    "none": archive({}),
    "local zip64 fields": archive(force_zip64=True),
    "extra fields": archive(extra=struct.pack("<HH7s", 0x4246, 7, b"padding")),
    "descriptors": piped(),
    "zip64 end": with_zip64_end(archive()),
    "more than a tail": archive({f"name-{i}": b"%d" % i for i in range(500)}),
}


@pytest.mark.parametrize("name", GOOD)
def test_stored_bytes_are_those_that_zipfile_reads(name: str) -> None:
    content = GOOD[name]
    with zipfile.ZipFile(io.BytesIO(content)) as expected:
        assert stored(content) == {info.filename: expected.read(info) for info in expected.infolist()}


def test_entries_are_in_the_order_of_the_file() -> None:
    offsets = [entry.offset for entry in located(GOOD["more than a tail"])]
    assert offsets == sorted(offsets)
    assert len(offsets) == 500


def test_deflated_entries_are_told_as_such() -> None:
    content = archive(method=zipfile.ZIP_DEFLATED)
    entries = located(content)
    assert {entry.name: entry.is_stored for entry in entries} == dict.fromkeys(CONTENTS, False)
    directory = read_directory(reader(content), len(content))
    assert {member.name: member.decoded_nbytes for member in directory.members} == {
        name: len(data) for name, data in CONTENTS.items()
    }


def test_an_encrypted_entry_is_not_told_as_stored() -> None:
    content = bytearray(archive({"a": b"secret"}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    assert [entry.is_stored for entry in located(bytes(content))] == [False]


def test_a_run_of_archives_is_read_backwards() -> None:
    parts = [with_zip64_end(archive({f"a/data/{i}": b"%d" % i * 100})) for i in range(5)]
    content = b"".join(parts)
    end, found = len(content), []
    while end:
        directory = read_directory(reader(content), end)
        (entry,) = locate(reader(content), directory)
        found.append(content[entry.offset : entry.offset + entry.nbytes])
        assert directory.end == end
        end = directory.start
    assert found[::-1] == [b"%d" % i * 100 for i in range(5)]


def test_a_directory_is_one_read_and_another_if_it_is_long() -> None:
    for name, reads in (("stored", 1), ("more than a tail", 2)):
        content, asked = GOOD[name], list[int]()

        def read(offset: int, length: int, content: bytes = content, asked: list[int] = asked) -> bytes:
            asked.append(length)
            return content[offset : offset + length]

        read_directory(read, len(content))
        assert len(asked) == reads


def test_entries_beyond_4_gib_are_found() -> None:
    """The first is larger than 32 bits can say, the second lies farther back, as torch.save writes them."""
    size = 5 << 30
    local = struct.Struct("<4sHHHHHIIIHH")
    first = local.pack(b"PK\3\4", 0, 0x808, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    second = local.pack(b"PK\3\4", 0, 0x808, 0, 0, 0, 0, 0, 0, 1, 3) + b"b" + bytes(3)
    second_offset = len(first) + size + 24
    directory_offset = second_offset + len(second) + 7
    fields = (
        struct.pack("<HHQQ", 1, 16, size, size),
        struct.pack("<HHH", 0x4246, 2, 0) + struct.pack("<HHQ", 1, 8, second_offset),
    )
    central = struct.Struct("<4sHHHHHHIIIHHHHHII")
    unknown = 2**32 - 1
    directory = (
        central.pack(b"PK\1\2", 0, 0, 0x808, 0, 0, 0, 0, unknown, unknown, 1, len(fields[0]), 0, 0, 0, 0, 0)
        + b"a" + fields[0]
        + central.pack(b"PK\1\2", 0, 0, 0x808, 0, 0, 0, 0, 7, 7, 1, len(fields[1]), 0, 0, 0, 0, unknown)
        + b"b" + fields[1]
    )  # fmt: skip
    end64_offset = directory_offset + len(directory)
    end = (
        struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0, 45, 0, 0, 2, 2, len(directory), directory_offset)
        + struct.pack("<4sIQI", b"PK\6\7", 0, end64_offset, 1)
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2, 2, len(directory), unknown, 0)
    )
    runs = {0: first, second_offset: second + b"content" + directory + end}

    def read(offset: int, length: int) -> bytes:
        content = bytearray(length)
        for start, run in runs.items():
            begin, stop = max(offset, start), min(offset + length, start + len(run))
            if begin < stop:
                content[begin - offset : stop - offset] = run[begin - start : stop - start]
        return bytes(content)

    found = locate(read, read_directory(read, end64_offset + len(end)))
    assert [(entry.offset, entry.nbytes) for entry in found] == [
        (len(first), size), (second_offset + len(second), 7)
    ]  # fmt: skip


def put(content: bytes, signature: bytes, at: int, value: bytes) -> bytes:
    """Overwrite bytes of the first record that has this signature."""
    start = content.rindex(signature) if signature == b"PK\5\6" else content.index(signature)
    return content[: start + at] + value + content[start + at + len(value) :]


_ONE, _TWO = archive({"a": b"12345"}), archive({"a": b"12345", "b": b"67890"})
_WIDE = with_zip64_end(_TWO)
_WRONG: Final = {
    "no end record": _ONE[:-1],
    "bytes behind the end": _ONE + b"\0",
    "comment": put(_ONE, b"PK\5\6", 20, b"\1\0") + b"c",
    "comment beyond the end": put(_ONE, b"PK\5\6", 20, b"\1\0"),
    "too few entries said": put(_TWO, b"PK\5\6", 8, b"\1\0\1\0"),
    "too many entries said": put(_TWO, b"PK\5\6", 8, b"\3\0\3\0"),
    "disk": put(_ONE, b"PK\5\6", 4, b"\1\0"),
    "counts differ": put(_ONE, b"PK\5\6", 8, b"\2\0"),
    "directory before the file": put(_ONE, b"PK\5\6", 16, b"\xfe\xff\xff\xff"),
    "directory of more bytes": put(_ONE, b"PK\5\6", 12, b"\xfe\xff\xff\x01"),
    "zip64 says otherwise": put(_WIDE, b"PK\6\6", 24, struct.pack("<QQ", 1, 1)),
    "zip64 of absurd count": put(_WIDE, b"PK\6\6", 24, struct.pack("<QQ", MAX_ENTRIES + 1, MAX_ENTRIES + 1)),
    "zip64 of absurd size": put(put(_WIDE, b"PK\5\6", 12, b"\xff" * 4), b"PK\6\6", 40, struct.pack("<Q", 2**63)),
    "zip64 elsewhere": put(_WIDE, b"PK\6\7", 8, struct.pack("<Q", 7)),
    "zip64 with more": put(_WIDE, b"PK\6\6", 4, struct.pack("<Q", 45)),
    "zip64 of several disks": put(_WIDE, b"PK\6\7", 16, struct.pack("<I", 2)),
    "zip64 without its record": put(_WIDE, b"PK\6\6", 0, b"PK\6\0"),
    "member signature": put(_ONE, b"PK\1\2", 0, b"PK\1\3"),
    "member on another disk": put(_ONE, b"PK\1\2", 34, b"\1\0"),
    "name longer than the directory": put(_ONE, b"PK\1\2", 28, b"\xff\xff"),
    "comment longer than the directory": put(_ONE, b"PK\1\2", 32, b"\1\0"),
    "stored in two sizes": put(_ONE, b"PK\1\2", 20, b"\4\0\0\0"),
    "offset beyond the end": put(_ONE, b"PK\1\2", 42, b"\xfe\xff\0\0"),
    "local header missing": put(_ONE, b"PK\1\2", 42, b"\1\0\0\0"),
    "local signature": put(_ONE, b"PK\3\4", 0, b"PK\3\5"),
    "local flags": put(_ONE, b"PK\3\4", 6, b"\2\0"),
    "local method": put(_ONE, b"PK\3\4", 8, b"\x08\0"),
    "local crc": put(_ONE, b"PK\3\4", 14, b"\0\0\0\0"),
    "local size": put(_ONE, b"PK\3\4", 18, b"\4\0\0\0"),
    "local decoded size": put(_ONE, b"PK\3\4", 22, b"\4\0\0\0"),
    "local name": put(_ONE, b"PK\3\4", 30, b"b"),
    "local name length": put(_ONE, b"PK\3\4", 26, b"\2\0"),
    "local extra into the directory": put(_ONE, b"PK\3\4", 28, b"\1\0"),
    "sizes beyond the directory": put(
        put(_ONE, b"PK\1\2", 20, struct.pack("<II", 6, 6)), b"PK\3\4", 18, struct.pack("<II", 6, 6)
    ),
    "overlap": put(put(_TWO, b"PK\1\2", 20, struct.pack("<II", 6, 6)), b"PK\3\4", 18, struct.pack("<II", 6, 6)),
    "zip64 field missing its numbers": put(_ONE, b"PK\1\2", 20, b"\xff" * 8),
    "name twice": archive({"a": b"1", "b": b"2"}).replace(b"b", b"a"),
    "name not UTF-8": archive({"ü": b""}).replace("ü".encode(), b"\xff\xff"),
    "inside of a file": b"more" + archive({"a": b"1"})[:-4],
    "empty": b"",
    "end record alone, cut": b"PK\5\6" + bytes(17),
}


@pytest.mark.parametrize("name", _WRONG)
def test_what_contradicts_itself_is_refused(name: str) -> None:
    with pytest.raises(NotThisFormat):
        located(_WRONG[name])


def test_two_members_at_one_place_are_refused() -> None:
    """As in an archive that grows to terabytes by one entry under many names."""
    content = archive({"a": b"1", "b": b"2"})
    second = content.rindex(b"PK\1\2")
    twice = content[: second + 42] + bytes(4) + content[second + 46 :]
    with pytest.raises(NotThisFormat, match="overlap"):
        located(twice)


def test_a_file_that_is_shorter_than_was_said_is_refused() -> None:
    for name in GOOD:
        content = GOOD[name]
        for cut in (1, len(content) // 2, len(content)):
            with pytest.raises(NotThisFormat):
                read_directory(reader(content[:-cut]), len(content))


def test_a_zip_is_told_by_its_first_bytes() -> None:
    assert all(looks_like_zip(content[:64], len(content)) for name, content in GOOD.items() if name != "none")
    assert not looks_like_zip(b"PK\3\4" + bytes(60), 64)
    assert not looks_like_zip(b"GGUF" + bytes(60), 1000)


def assert_inside(content: bytes) -> None:
    """Whatever is accepted lies in the file and does not overlap."""
    try:
        entries = located(content)
    except NotThisFormat as error:
        assert str(error)
        return
    end = 0
    for entry in entries:
        assert entry.offset >= end
        end = entry.offset + entry.nbytes
    assert end <= len(content)


@given(name=st.sampled_from(sorted(GOOD)), data=st.data())
def test_a_damaged_archive_is_refused_or_lies_within_its_file(name: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(1, min(len(content), 300)))
        content[-at : len(content) - at + 1] = data.draw(st.binary(max_size=2))
    assert_inside(bytes(content))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_lie_within_their_file(content: bytes) -> None:
    assert_inside(content)
    assert_inside(archive({"a": content}) + content)
