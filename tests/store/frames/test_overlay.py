"""What is stored shows through the holes of a spool file, and what is written there does not touch it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import (
    all_problems,
    contents,
    model,
    noise,
    open_again,
    problems,
    put_file,
    served_inode,
    tuned,
    weights,
)
from zipfs.errors import Damaged
from zipfs.library import Library
from zipfs.store.frames.open_blob import OpenBlobs
from zipfs.store.frames.overlay import (
    BLOCK_NBYTES,
    Older,
    StoredBytes,
    fill_edges,
    is_hole,
    keeps_holes,
    ranges,
    read_over,
)
from zipfs.store.objects.values import Extent
from zipfs.store.store import open_store

NBYTES = 10 * BLOCK_NBYTES + 123


class Memory:
    """Content that notes what is read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read_nbytes = 0

    @property
    def nbytes(self) -> int:
        return len(self.content)

    def read(self, offset: int, nbytes: int) -> bytes:
        self.read_nbytes += nbytes
        return self.content[offset : offset + nbytes]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "spooled", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, NBYTES)
    yield fd
    os.close(fd)


def write_over(fd: int, older: Older, offset: int, data: bytes) -> None:
    before, behind = fill_edges(fd, older, offset, len(data))
    os.pwrite(fd, bytes(before) + data + bytes(behind), offset - len(before))


def test_all_of_it_shows_through_a_file_that_is_one_hole(fd: int) -> None:
    content = noise(NBYTES)
    assert bytes(read_over(fd, Older(Memory(content)), 0, NBYTES + 1000)) == content
    assert bytes(read_over(fd, Older(Memory(content)), 5000, 6000)) == content[5000:11_000]
    assert is_hole(fd, 0, NBYTES)


def test_random_writes_and_truncations_are_as_on_a_disk(fd: int, tmp_path: Path) -> None:
    content = noise(NBYTES)
    model = bytearray(content)
    older = Older(Memory(content))
    chance = random.Random(5)
    for step in range(2000):
        match chance.randrange(6):
            case 0:
                nbytes = chance.randrange(2 * NBYTES)
                os.ftruncate(fd, nbytes)
                older.clip(nbytes)
                model = model[:nbytes] + bytes(max(0, nbytes - len(model)))
            case _:
                offset, data = chance.randrange(2 * NBYTES), chance.randbytes(chance.choice((1, 100, 4096, 9000)))
                write_over(fd, older, offset, data)
                model += bytes(max(0, offset - len(model)))
                model[offset : offset + len(data)] = data
        if step % 50 == 0:  # begin anew, or soon nothing would show through
            content = chance.randbytes(NBYTES)
            model, older = bytearray(content), Older(Memory(content))
            os.ftruncate(fd, 0)
            os.ftruncate(fd, NBYTES)
        start = chance.randrange(len(model) + 100)
        assert bytes(read_over(fd, older, start, 10_000)) == model[start : start + 10_000], step
    assert bytes(read_over(fd, older, 0, 10 * NBYTES)) == model


def test_a_write_reads_no_more_than_the_edges_of_its_blocks(fd: int) -> None:
    memory = Memory(noise(NBYTES))
    write_over(fd, Older(memory), 3 * BLOCK_NBYTES - 10, bytes(3 * BLOCK_NBYTES))
    assert memory.read_nbytes == BLOCK_NBYTES - 10 + 10  # before it and behind it
    assert list(ranges(fd, 0, NBYTES)) == [
        (0, 2 * BLOCK_NBYTES, True),
        (2 * BLOCK_NBYTES, 6 * BLOCK_NBYTES, False),
        (6 * BLOCK_NBYTES, NBYTES, True),
    ]


def test_what_was_cut_off_does_not_come_back(fd: int) -> None:
    older = Older(Memory(noise(NBYTES)))
    os.ftruncate(fd, 5000)
    older.clip(5000)
    os.ftruncate(fd, NBYTES)
    older.clip(NBYTES)
    assert bytes(read_over(fd, older, 0, NBYTES)) == noise(NBYTES)[:5000] + bytes(NBYTES - 5000)


def test_stored_bytes_are_those_of_the_extents(tmp_path: Path) -> None:
    content = noise(3 << 20)
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", content)
        inode = served_inode(store, b"file")
        blobs = store.catalog.blobs_of(inode)
        packs = {name: store.packs.open(name) for name in blobs.packs}
        (whole,) = store.catalog.extents(inode)
        extents = [Extent(0, 1 << 20, whole.blob_id, 1000), Extent(1 << 20, 5000, whole.blob_id, 0)]
        stored = StoredBytes(store.frames, extents, OpenBlobs(blobs, packs))
        expected = content[1000 : 1000 + (1 << 20)] + content[:5000]
        assert stored.nbytes == len(expected)
        assert bytes(stored.read(0, 2 << 20)) == expected
        assert bytes(stored.read((1 << 20) - 7, 100)) == expected[(1 << 20) - 7 :][:100]
        assert bytes(stored.read(len(expected), 10)) == b""


def test_a_copy_of_a_spool_file_is_refused(tmp_path: Path) -> None:
    """rsync writes zeros for holes, `cp --sparse=always` holes for zeros: either would be served as content."""
    content = model(tuned(weights(60_000)))
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        put_file(store, tmp_path, b"file", content)
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        assert problems(store) == []
        spooled = store.spool_path(inode)
    assert contents(path)[b"file"] == content
    shutil.copy2(spooled, tmp_path / "copy")  # with its attributes
    (tmp_path / "copy").replace(spooled)
    with Library(path) as library, pytest.raises(Damaged, match="is a copy"):
        library.read("file")
    assert ["is a copy" in str(problem) for problem in all_problems(path)] == [True]


def test_the_file_system_of_a_directory_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keeps_holes(tmp_path)
    assert not keeps_holes(tmp_path / "none")
    real = os.lseek
    monkeypatch.setattr(os, "lseek", lambda fd, at, whence: at if whence == os.SEEK_DATA else real(fd, 0, os.SEEK_END))
    assert not keeps_holes(tmp_path)  # all of it is said to be written
