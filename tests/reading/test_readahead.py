"""What is decoded ahead of readers: what they ask for next, in that order, and no more than is allowed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipfs.codec import FRAME_NBYTES
from zipfs.reading.file_slices import FileSlices
from zipfs.reading.readahead import AccessOrder, Readahead
from zipfs.store.objects.values import BlobId, Extent

KIB = 1 << 10
MIB = 1 << 20
REQUEST = 128 * KIB
AHEAD = 32 * MIB
TENSORS = 12

Request = tuple[int, int]
"""offset, nbytes."""


def layout(*sizes: int) -> FileSlices:
    """A file of tensors of these sizes, each a blob."""
    extents, offset = [], 0
    for number, nbytes in enumerate(sizes, start=1):
        extents.append(Extent(offset, nbytes, BlobId(number), 0))
        offset += nbytes
    return FileSlices(extents, [FRAME_NBYTES] * len(extents))


def requests(begin: int, end: int, nbytes: int = REQUEST) -> Iterator[Request]:
    """What the kernel asks for when [begin, end) is read in order."""
    return ((offset, min(nbytes, end - offset)) for offset in range(begin, end, nbytes))


def surprises(readahead: Readahead, asked: Iterable[Request], at_most: int = AHEAD) -> list[Request]:
    """The requests that nothing was decoded for when they came."""
    ready: list[tuple[int, int]] = []
    found = []
    for offset, nbytes in asked:
        if not any(begin <= offset and offset + nbytes <= end for begin, end in ready):
            found.append((offset, nbytes))
        ready.extend(readahead.observe(offset, nbytes, at_most))
        ready = join(ready)
    return found


def join(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few ranges as possible."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


def test_reading_in_order_surprises_once() -> None:
    slices = layout(3 * MIB, 700, 5 * MIB, 40 * MIB)
    assert surprises(Readahead(slices, {}), requests(0, slices.nbytes)) == [(0, REQUEST)]


def test_reading_from_the_middle_of_a_tensor_surprises_until_it_is_clear_that_it_goes_on() -> None:
    slices = layout(64 * MIB)
    found = surprises(Readahead(slices, {}), requests(20 * MIB, 60 * MIB, 32 * KIB))
    assert found == list(requests(20 * MIB, 20 * MIB + 5 * 32 * KIB, 32 * KIB))


def test_the_first_request_into_a_tensor_is_enough() -> None:
    """Loaders map a file and touch one tensor after the other; the kernel reads a little around the first touch."""
    slices = layout(1 * MIB, 30 * MIB, 30 * MIB)
    ranges = Readahead(slices, {}).observe(31 * MIB, 16 * KIB, AHEAD)
    assert ranges == [(31 * MIB + 16 * KIB, 31 * MIB + 80 * KIB)]


def test_the_further_a_reader_went_the_further_it_is_followed() -> None:
    readahead = Readahead(layout(200 * MIB), {})
    ahead = [sum(end - begin for begin, end in readahead.observe(*asked, AHEAD)) for asked in requests(0, 100 * MIB)]
    assert ahead == sorted(ahead)
    assert ahead[0] == 4 * REQUEST
    assert ahead[-1] == AHEAD


def _ready(readahead: Readahead, begin: int, end: int, request_nbytes: int = MIB) -> list[Request]:
    """What is asked for and decoded ahead while [begin, end) is read, as ranges."""
    asked = list(requests(begin, end, request_nbytes))
    ahead = [ahead for one in asked for ahead in readahead.observe(*one, AHEAD)]
    return join([*((offset, offset + nbytes) for offset, nbytes in asked), *ahead])


@pytest.mark.parametrize("request_nbytes", [REQUEST, MIB])
def test_where_only_the_beginning_of_each_tensor_is_touched_no_more_is_decoded(request_nbytes: int) -> None:
    """The kernel asks for 8 MiB there, which is no reason to believe that the rest is wanted now."""
    size = 40 * MIB
    readahead = Readahead(layout(*[size] * TENSORS), {})
    _ready(readahead, 0, 4 * MIB)
    for begin in range(size, TENSORS * size, size):
        assert _ready(readahead, begin, begin + 8 * MIB, request_nbytes) == [(begin, begin + 8 * MIB)]


def test_a_stream_is_expected_to_end_where_one_of_the_last_did() -> None:
    """Some tensors lie so near each other that what the kernel asks for around them is one stream."""
    size = 80 * MIB
    readahead = Readahead(layout(*[size] * TENSORS), {})
    lengths = [8 * MIB, 8 * MIB, 25 * MIB - 700] * (TENSORS // 3)
    for number, nbytes in enumerate(lengths):
        begin = number * size
        (first, last), *others = _ready(readahead, begin, begin + nbytes)
        assert (first, others) == (begin, [])
        if number > 2:
            assert last - nbytes - begin <= 700


def test_a_reader_that_comes_back_for_the_rest_of_a_tensor_is_followed_as_far_as_any() -> None:
    size = 80 * MIB
    readahead = Readahead(layout(*[size] * TENSORS), {})
    for begin in range(0, TENSORS * size, size):
        _ready(readahead, begin, begin + 8 * MIB)
    for begin in range(0, (TENSORS - 1) * size, size):
        assert _ready(readahead, begin + 8 * MIB, begin + 9 * MIB) == [(begin + 8 * MIB, begin + 9 * MIB + AHEAD)]


@pytest.mark.parametrize("readers", [2, 8, 32])
def test_several_readers_in_one_file(readers: int) -> None:
    """As threads do that share a descriptor, each with a part of the file."""
    part = 20 * MIB
    slices = layout(readers * part)
    each = [list(requests(number * part, (number + 1) * part)) for number in range(readers)]
    chance = random.Random(readers)
    asked = []
    while any(each):
        asked.append(chance.choice([mine for mine in each if mine]).pop(0))
    readahead = Readahead(slices, {})
    found = surprises(readahead, asked)
    assert len(found) <= 3 * readers
    assert all(offset % part < 3 * REQUEST for offset, _ in found)


def test_requests_that_come_out_of_order_are_one_reader() -> None:
    """The kernel splits what it reads ahead, and several of its threads may hand the parts over."""
    asked = list(requests(0, 64 * MIB))
    chance = random.Random(1)
    for at in range(0, len(asked), 16):
        part = asked[at : at + 16]
        chance.shuffle(part)
        asked[at : at + 16] = part
    readahead = Readahead(layout(64 * MIB), {})
    found = surprises(readahead, asked)
    assert len(readahead) <= 2
    assert all(offset < 2 * MIB or abs(offset - 8 * MIB) <= 2 * MIB for offset, _ in found)


def _touched(order: Sequence[int], nbytes: int) -> list[Request]:
    """What is asked for when tensors of `nbytes` are read in an order of their own."""
    return [asked for number in order for asked in requests(number * nbytes, (number + 1) * nbytes)]


def test_jumps_from_tensor_to_tensor_are_learned_and_expected_in_files_of_the_same_layout() -> None:
    """Tensors longer than what is decoded ahead, or a jump could be right for the wrong reason."""
    size = 40 * MIB
    slices = layout(*[size] * TENSORS)
    order = [11, 6, 2, 9, 4, 0]
    shared: AccessOrder = {}
    jumps = [(number * size, REQUEST) for number in order]
    assert surprises(Readahead(slices, shared), _touched(order, size)) == jumps
    for _ in range(3):
        assert surprises(Readahead(slices, shared), _touched(order, size)) == jumps[:1]


def test_readers_who_take_turns_are_not_taken_for_one_who_jumps() -> None:
    size = 80 * MIB
    slices = layout(size, size)
    each = [list(requests(number * size, (number + 1) * size)) for number in range(2)]
    shared: AccessOrder = {}
    readahead = Readahead(slices, shared)
    for at in range(0, len(each[0]), 20):
        for mine in each:
            for one in mine[at : at + 20]:
                readahead.observe(*one, AHEAD)
    assert all(stop in (size, 2 * size) or stop % size <= 8 * MIB for stop, _ in shared.values())


def test_small_tensors_are_followed_too() -> None:
    """Many are shorter than one request; what the kernel asks for beyond their ends says nothing of the order."""
    sizes = [4 * MIB, 8 * KIB] * TENSORS
    slices = layout(*sizes)
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    large = [starts[number] for number in range(0, len(sizes), 2)][::-1]
    asked = [asked for begin in large for asked in requests(begin, begin + 4 * MIB)]
    shared: AccessOrder = {}
    assert len(surprises(Readahead(slices, shared), asked)) == TENSORS
    assert surprises(Readahead(slices, shared), asked) == [(large[0], REQUEST)]


@pytest.mark.parametrize("small", [8 * KIB, 700])
def test_an_order_that_changes_is_learned_anew(small: int) -> None:
    """Also where readers had left after a tensor so small that requests pass over it."""
    pair = 8 * MIB + small
    slices = layout(*[8 * MIB, small] * TENSORS)
    shared: AccessOrder = {}
    backwards = [
        asked for number in range(TENSORS - 1, -1, -1) for asked in requests(number * pair, (number + 1) * pair)
    ]
    assert len(surprises(Readahead(slices, shared), backwards)) == TENSORS
    assert len(shared) == TENSORS - 1
    forwards = list(requests(0, slices.nbytes))
    surprises(Readahead(slices, shared), forwards)
    assert len(shared) == 1  # who has come to the end of the file may still go back
    assert surprises(Readahead(slices, shared), forwards) == forwards[:1]


@pytest.mark.parametrize("beyond", [0, REQUEST, 4 * MIB])
def test_a_reader_that_comes_back_to_where_it_had_left_is_expected_there(beyond: int) -> None:
    """In the order of names 10 and 11 come between 1 and 2. The kernel reads a little beyond what is asked for."""
    size = 40 * MIB
    slices = layout(*[size] * TENSORS)
    asked: list[Request] = []
    seen: set[Request] = set()
    for number in sorted(range(TENSORS), key=str):
        wanted = requests(number * size, min((number + 1) * size + beyond, slices.nbytes))
        asked += [one for one in wanted if one not in seen]
        seen.update(asked)
    shared: AccessOrder = {}
    surprises(Readahead(slices, shared), asked)
    for _ in range(3):
        readahead = Readahead(slices, shared)
        wasted = {
            at for one in asked for begin, end in readahead.observe(*one, AHEAD) for at in range(begin, end, REQUEST)
        }
        assert surprises(Readahead(slices, shared), asked) == asked[:1]
        assert len(wasted) <= len(asked) + 12


def test_a_reader_that_goes_round_in_circles_is_followed_no_further_than_allowed() -> None:
    slices = layout(MIB, MIB)
    shared: AccessOrder = {0: (MIB, MIB), MIB: (2 * MIB, 0)}
    ranges = Readahead(slices, shared).observe(0, MIB, AHEAD)
    assert sum(end - begin for begin, end in ranges) == 4 * MIB


@pytest.mark.parametrize("nbytes", [64 * MIB, 256 * MIB, 1 << 30, 8 << 30])
def test_small_random_reads_have_next_to_nothing_decoded_ahead(nbytes: int) -> None:
    """Whatever is decoded for them is in the way of the next: each would pay for a frame that nobody asks for."""
    slices = layout(*[16 * MIB] * (nbytes // (16 * MIB)))
    readahead = Readahead(slices, {})
    chance = random.Random(nbytes)
    asked = 2000
    followed = sum(bool(readahead.observe(chance.randrange(nbytes // 4096) * 4096, 4096, AHEAD)) for _ in range(asked))
    assert followed < asked // 50


def test_a_reader_of_every_tenth_block_is_followed() -> None:
    readahead = Readahead(layout(256 * MIB), {})
    asked = [(offset, 4 * KIB) for offset in range(0, 128 * MIB, 40 * KIB)]
    followed = [bool(readahead.observe(*one, AHEAD)) for one in asked]
    assert all(followed[8:])


def test_what_lies_beyond_the_end_says_nothing() -> None:
    readahead = Readahead(layout(MIB), {})
    assert readahead.observe(MIB, 5, AHEAD) == []
    assert readahead.observe(5 * MIB, 5, AHEAD) == []
    assert readahead.observe(3, 0, AHEAD) == []
    assert len(readahead) == 0
    assert readahead.observe(0, 5 * MIB, AHEAD) == []
    assert len(readahead) == 1


sizes = st.integers(1, 3) | st.integers(1, 40 * MIB)
offsets = st.integers(0, 200 * MIB)
lengths = st.integers(0, 600) | st.sampled_from([4096, REQUEST, MIB, 16 * MIB])
limits = st.sampled_from([0, 1, 4096, MIB, AHEAD])


@given(
    st.lists(sizes, min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 1), offsets, lengths, limits), max_size=100),
)
def test_whatever_is_asked_the_ranges_are_parts_of_the_file_and_within_the_limit(
    sizes: list[int], asked: list[tuple[int, int, int, int]]
) -> None:
    """Two files of one layout, so that what one has learned leads the other."""
    slices = layout(*sizes)
    shared: AccessOrder = {}
    files = [Readahead(slices, shared) for _ in range(2)]
    for number, offset, nbytes, at_most in asked:
        ranges = files[number].observe(offset % (slices.nbytes + 2), nbytes, at_most)
        assert sum(end - begin for begin, end in ranges) <= at_most
        assert all(0 <= begin < end <= slices.nbytes for begin, end in ranges)
        assert len(files[number]) <= 64
        assert len(shared) <= len(sizes)
