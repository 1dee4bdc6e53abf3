"""The manifest log is written as it always was: records of earlier versions come out again byte for byte."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import zstandard

from tests.support.sample import SAMPLES
from zipfs.store.catalog import log_record
from zipfs.store.catalog.log_record import COMPRESSED, RECORD_HEADER, SEGMENT_HEADER, Changes
from zipfs.store.objects.values import Area, BlobId, Entry, Extent, Inode, InodeId, Kind, PackName, State


def payloads(data: bytes) -> list[bytes]:
    """The JSON of each record; how zstandard compresses it differs from release to release."""
    found, at = [], 0
    while at < len(data):
        nbytes, flags, _, _ = RECORD_HEADER.unpack_from(data, at)
        payload = data[at + RECORD_HEADER.size : at + RECORD_HEADER.size + nbytes]
        found.append(zstandard.decompress(payload) if flags & COMPRESSED else payload)
        at += RECORD_HEADER.size + nbytes
    return found


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def test_records_of_samples_are_written_as_they_were(sample: Path) -> None:
    with zipfile.ZipFile(sample) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".log"))
        data = archive.read(name)[SEGMENT_HEADER.size :]
    records = list(log_record.decode(data, name, SEGMENT_HEADER.size))
    again = b"".join(log_record.encode(one.changes, one.seq, one.flags & ~COMPRESSED) for one in records)
    assert len(records) > 3
    assert payloads(again) == payloads(data)


FILE = Inode(InodeId(3), Kind.FILE, State.STORED, 0o644, 1, 2, 30, -4, 5, None, 6, bytes(range(32)), 7, -8)
LINK = Inode(InodeId(4), Kind.SYMLINK, State.NONE, 0o777, 0, 0, 0, 1, 1, target=b"a\xff")
EVERYTHING = Changes(
    inodes={FILE.id: FILE, InodeId(9): None, LINK.id: LINK},
    entries={
        (InodeId(1), b"n\xfe"): Entry(InodeId(1), b"n\xfe", FILE.id, Area.SERVED),
        (InodeId(2), b"l"): Entry(InodeId(2), b"l", LINK.id, Area.LINGERING),
        (InodeId(1), b"gone"): None,
    },
    xattrs={(FILE.id, b"user.a"): b"\x00\xff", (FILE.id, b"user.b"): None},
    extents={FILE.id: (Extent(0, 10, BlobId(5), 0), Extent(10, 20, BlobId(6), 8)), InodeId(8): ()},
    packs={PackName(b"p" * 16): True, PackName(b"q" * 16): False},
    next_inode=10,
    next_blob=7,
)
RECORDED = (
    b'{"inodes":[{"id":3,"kind":"file","state":"stored","mode":420,"uid":1,"gid":2,"nbytes":30,"mtime_ns":-4,'
    b'"ctime_ns":5,"stored_nbytes":6,"sha256":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",'
    b'"layout_sum":7,"atime_ns":-8},{"id":4,"kind":"symlink","state":"none","mode":511,"uid":0,"gid":0,"nbytes":0,'
    b'"mtime_ns":1,"ctime_ns":1,"target":"a\\udcff"}],"dropped_inodes":[9],'
    b'"entries":[[1,"n\\udcfe",3,0],[2,"l",4,2]],"dropped_entries":[[1,"gone"]],'
    b'"xattrs":[[3,"user.a","00ff"],[3,"user.b",null]],"extents":[[3,[[10,5,0],[20,6,8]]],[8,[]]],'
    b'"packs":["70707070707070707070707070707070"],"dropped_packs":["71717171717171717171717171717171"],'
    b'"next_inode":10,"next_blob":7}'
)


def test_every_kind_of_change_is_written_as_it_was() -> None:
    data = log_record.encode(EVERYTHING, 1)
    assert payloads(data) == [RECORDED]
    assert next(log_record.decode(data, "log", 0)).changes == EVERYTHING


def test_changes_of_nothing_are_written_as_nothing() -> None:
    assert payloads(log_record.encode(Changes(), 1)) == [b"{}"]
