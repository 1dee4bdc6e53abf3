"""Stored bytes of many frames: each range is read, once, in few reads, and none of them too long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import noise
from zipfs.errors import PackDamaged
from zipfs.store.objects.values import PackName
from zipfs.store.packs.local_file import LocalPackFile
from zipfs.store.packs.ranges import Read, Stored, fetch, plan_reads

KIB = 1 << 10
MIB = 1 << 20
MAX_READ_NBYTES = 8 * MIB
CONTENT = noise(3 * MIB, 1)


def make_pack(directory: Path, number: int, content: bytes = b"") -> LocalPackFile:
    path = directory / f"pack-{number}"
    path.write_bytes(content)
    return LocalPackFile(PackName(bytes([number]) * 16), os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[LocalPackFile]:
    directory = tmp_path_factory.mktemp("packs")
    return [make_pack(directory, number, CONTENT[number:]) for number in range(3)]


def shape(reads: Sequence[Read]) -> list[tuple[int, int, list[int]]]:
    return [(read.offset, read.nbytes, sorted(read.members)) for read in reads]


def test_neighbours_are_read_together(packs: list[LocalPackFile]) -> None:
    pack = packs[0]
    ranges = [Stored(pack, 700, 300), Stored(pack, 100, 200), Stored(pack, 300, 400)]
    assert shape(plan_reads(ranges)) == [(100, 900, [0, 1, 2])]


def test_what_is_far_apart_or_in_other_packs_is_read_apart(packs: list[LocalPackFile]) -> None:
    ranges = [
        Stored(packs[0], 0, 10),
        Stored(packs[0], 10 + 64 * KIB, 10),
        Stored(packs[0], 20 + 64 * KIB + 64 * KIB + 1, 10),
        Stored(packs[1], 0, 10),
    ]
    assert shape(plan_reads(ranges)) == [(0, 20 + 64 * KIB, [0, 1]), (128 * KIB + 21, 10, [2]), (0, 10, [3])]


def test_the_same_range_twice_is_read_once(packs: list[LocalPackFile]) -> None:
    assert shape(plan_reads([Stored(packs[0], 5, 100)] * 3)) == [(5, 100, [0, 1, 2])]


def test_nothing_is_read_for_nothing(packs: list[LocalPackFile]) -> None:
    assert plan_reads([]) == []
    assert fetch([]) == []


offsets = st.integers(0, 50) | st.integers(0, 40 * MIB) | st.integers(0, 20).map(lambda count: count * 64 * KIB)
lengths = st.integers(0, 100) | st.integers(0, MIB) | st.just(MIB)


@given(st.lists(st.tuples(st.integers(0, 2), offsets, lengths), max_size=60))
def test_every_range_is_in_one_read_and_no_read_is_too_long(
    packs: list[LocalPackFile], asked: list[tuple[int, int, int]]
) -> None:
    ranges = [Stored(packs[number], offset, nbytes) for number, offset, nbytes in asked]
    reads = plan_reads(ranges)
    assert sorted(position for read in reads for position in read.members) == list(range(len(ranges)))
    for read in reads:
        assert read.nbytes <= MAX_READ_NBYTES
        members = [ranges[position] for position in read.members]
        assert all(one.pack is read.pack for one in members)
        assert min(one.offset for one in members) == read.offset
        assert max(one.offset + one.nbytes for one in members) == read.offset + read.nbytes
        end = read.offset
        for one in sorted(members, key=lambda one: one.offset):
            assert one.offset <= end + 64 * KIB
            end = max(end, one.offset + one.nbytes)
    for number in range(3):
        mine = [(read.offset, read.nbytes) for read in reads if read.pack is packs[number]]
        assert mine == sorted(mine)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3 * MIB - 2000), st.integers(0, 1500)), max_size=30))
def test_the_bytes_are_those_of_the_ranges(packs: list[LocalPackFile], asked: list[tuple[int, int, int]]) -> None:
    ranges = [Stored(packs[number], offset, nbytes) for number, offset, nbytes in asked]
    outs = [bytearray(b"as it was") for _ in ranges]
    found = fetch(ranges, [memoryview(out) for out in outs])
    assert all(out == b"as it was" for out in outs)
    for (number, offset, nbytes), content in zip(asked, found, strict=True):
        assert bytes(content) == CONTENT[number + offset : number + offset + nbytes]


def test_more_than_a_thread_keeps_memory_for(packs: list[LocalPackFile], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipfs.store.packs.ranges._SCRATCH_NBYTES", 100)
    few, many = ([Stored(packs[number], 5, nbytes) for number in range(3)] for nbytes in (30, 40))
    for ranges in (few, many, few):
        assert [bytes(one) for one in fetch(ranges)] == [CONTENT[n + 5 : n + 5 + ranges[0].nbytes] for n in range(3)]


def test_a_pack_that_ends_too_early_or_cannot_be_read_is_damaged(tmp_path: Path) -> None:
    short = make_pack(tmp_path, 7, b"0123456789")
    with pytest.raises(PackDamaged, match=r"pack-7.* 5 bytes too early"):
        fetch([Stored(short, 5, 10)])
    directory = LocalPackFile(PackName(bytes(16)), os.open(tmp_path, os.O_RDONLY), "a directory")
    with pytest.raises(PackDamaged, match="a directory"):
        fetch([Stored(directory, 0, 10)])
    with pytest.raises(PackDamaged):
        fetch([Stored(short, -5, 10)])


def test_a_range_that_no_frame_can_fill_is_refused_before_memory_is_taken(packs: list[LocalPackFile]) -> None:
    with pytest.raises(PackDamaged, match=r"pack-1.* offset 77.* 4294967295 bytes"):
        fetch([Stored(packs[0], 0, 10), Stored(packs[1], 77, (1 << 32) - 1)])
