"""Ranges of files, read with one native call."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import noise
from zipfs.store.packs._native import read_ranges

NBYTES = 1 << 20
CONTENT = noise(NBYTES, 1)
ROOM_NBYTES = 16 << 20
PAGE = resource.getpagesize()


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    directory = tmp_path_factory.mktemp("files")
    (directory / "whole").write_bytes(CONTENT)
    (directory / "rest").write_bytes(CONTENT[1000:])
    with open(directory / "whole", "rb") as whole, open(directory / "rest", "rb") as rest:
        yield [whole.fileno(), rest.fileno()]


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


places = st.tuples(st.integers(0, 1), st.integers(0, NBYTES - 5000), st.integers(0, 4000))


@given(st.lists(places, max_size=20), st.booleans())
def test_each_buffer_gets_its_range(descriptors: list[int], asked: list[tuple[int, int, int]], resident: bool) -> None:
    buffers = [bytearray(nbytes) for _, _, nbytes in asked]
    ranges = [(descriptors[file], at, buffer) for (file, at, _), buffer in zip(asked, buffers, strict=True)]
    assert read_ranges(ranges, buffers if resident else []) is None
    for (file, at, nbytes), buffer in zip(asked, buffers, strict=True):
        assert buffer == CONTENT[1000 * file + at :][:nbytes]


def test_the_first_that_fails_is_told_and_those_before_it_are_filled(descriptors: list[int], tmp_path: Path) -> None:
    whole, _ = descriptors
    first, cut, last = bytearray(10), bytearray(30), bytearray(b"as it was")
    assert read_ranges([(whole, 0, first), (whole, NBYTES - 20, cut), (whole, 0, last)], []) == (1, 10, 0)
    assert bytes(first + cut[:20] + last) == CONTENT[:10] + CONTENT[-20:] + b"as it was"
    assert read_ranges([(whole, NBYTES, first)], []) == (0, 10, 0)
    assert read_ranges([(whole, (1 << 63) - 1, first)], []) == (0, 10, errno.EINVAL)
    assert read_ranges([(whole, -1, first)], []) == (0, 10, errno.EINVAL)
    assert read_ranges([(-1, 0, first)], [first]) == (0, 10, errno.EBADF)
    directory = os.open(tmp_path, os.O_RDONLY)
    assert read_ranges([(directory, 0, first)], []) == (0, 10, errno.EISDIR)
    os.close(directory)


@pytest.mark.parametrize(
    "ranges",
    [None, [None], [(0, 0)], [(0, 0, b"not to be written")], [("0", 0, bytearray(1))], [(0, 1 << 63, bytearray(1))]],
)
def test_what_is_no_list_of_ranges_is_refused(ranges: object) -> None:
    with pytest.raises((TypeError, BufferError, OverflowError)):
        read_ranges(ranges, [])  # type: ignore[arg-type]
    with pytest.raises((TypeError, BufferError)):
        read_ranges([], [b"not to be written"])


def test_buffers_can_be_used_again_after_an_error(descriptors: list[int]) -> None:
    buffer = bytearray(10)
    with pytest.raises(TypeError, match="tuple of descriptor"):
        read_ranges([(descriptors[0], 0, buffer), None], [buffer])  # type: ignore[list-item]
    buffer.extend(b"which fails while something holds it")


def test_a_buffer_that_is_resident_is_written_without_a_fault_for_each_page() -> None:
    view = np.empty(ROOM_NBYTES, np.uint8).data
    assert read_ranges([], [view]) is None
    before = faults()
    view[::PAGE] = bytes(ROOM_NBYTES // PAGE)
    assert faults() - before < ROOM_NBYTES // PAGE // 20


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (1, 2), (PAGE - 1, PAGE + 1), (5, ROOM_NBYTES - 7), (0, ROOM_NBYTES)]
)
def test_what_a_resident_buffer_holds_stays(start: int, stop: int) -> None:
    array = np.arange(ROOM_NBYTES // 4, dtype=np.uint32)
    assert read_ranges([], [array.view(np.uint8).data[start:stop]]) is None
    assert np.array_equal(array, np.arange(ROOM_NBYTES // 4, dtype=np.uint32))
