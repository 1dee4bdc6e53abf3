"""Runs of floats are found in plain bytes, cut where they begin and end, and nothing else is."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipfs.dtypes import item_nbytes
from zipfs.formats import Layout, Span, cut_runs, registry
from zipfs.formats.runs import LEAST_NBYTES, LEAST_PIECE_NBYTES, find_runs

SEED = 11
RNG = np.random.default_rng(SEED)
TEXT = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
TYPES: dict[str, Callable[[int], bytes]] = {
    "F64": lambda nbytes: RNG.normal(0, 0.05, nbytes // 8).astype("<f8").tobytes(),
    "F32": lambda nbytes: RNG.normal(0, 0.05, nbytes // 4).astype("<f4").tobytes(),
    "F16": lambda nbytes: RNG.normal(0, 0.05, nbytes // 2).astype("<f2").tobytes(),
    "BF16": lambda nbytes: (RNG.normal(0, 0.05, nbytes // 2).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes(),
}


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test has the same numbers, whatever ran before it in the same process."""
    RNG.bit_generator.state = np.random.default_rng(SEED).bit_generator.state


def found(content: bytes, offset: int = 0) -> list[tuple[int, int, str]]:
    """Return offset, end and type of the spans of a plain span of a file, which they are checked to tile."""
    span = Span(offset, len(content) - offset, "", (), None)
    layout = find_runs(Layout("opaque", (span,)), lambda at, nbytes: content[at : at + nbytes])
    end = offset
    for one in layout.spans:
        assert one.offset == end
        assert one.nbytes > 0
        end += one.nbytes
    assert end == len(content)
    return [(one.offset, one.offset + one.nbytes, one.dtype) for one in layout.spans]


def runs(content: bytes) -> list[tuple[int, int, str]]:
    return [one for one in found(content) if one[2]]


@pytest.mark.parametrize("phase", range(8))
@pytest.mark.parametrize("dtype", TYPES)
def test_a_run_is_cut_where_it_begins_and_ends(dtype: str, phase: int) -> None:
    junk, floats = TEXT[: 4000 + phase], TYPES[dtype](200_000)
    begin, end = len(junk), len(junk) + len(floats)
    cut = found(junk + floats + TEXT[:80_000])
    assert [one[2] for one in cut] == ["", dtype, ""]
    # Some letters are plausible exponents, of F16 many.
    exact_nbytes = 128 if dtype == "F16" else 16
    assert begin - exact_nbytes <= cut[1][0] <= begin
    assert (cut[1][0] - begin) % item_nbytes(dtype) == 0
    assert end <= cut[1][1] <= end + exact_nbytes


@pytest.mark.parametrize("dtype", TYPES)
def test_floats_alone_are_one_run(dtype: str) -> None:
    assert found(TYPES[dtype](300_000)) == [(0, 300_000, dtype)]


def test_runs_are_cut_alike_wherever_they_lie() -> None:
    tensors = [TYPES["F32"](4 * nitems) for nitems in (70_001, 90_000, 150_003)]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        content, expected = b"", []
        for number in order:
            content += TEXT[: 901 + 2 * number]
            expected.append((len(content), len(content) + len(tensors[number]), "F32"))
            content += tensors[number]
        assert runs(content) == expected


def test_two_types_are_two_runs() -> None:
    content = TYPES["F32"](300_000) + TYPES["BF16"](300_000)
    assert [dtype for _, _, dtype in runs(content)] == ["F32", "BF16"]
    assert sum(end - begin for begin, end, _ in runs(content)) > 590_000


def test_zeros_within_a_run_belong_to_it() -> None:
    content = TYPES["F32"](400_000) + bytes(400_000) + TYPES["F32"](400_000)
    assert found(content) == [(0, 1_200_000, "F32")]


def test_a_long_run_is_cut_into_pieces_from_its_start() -> None:
    floats = RNG.normal(0, 1, (2 * LEAST_PIECE_NBYTES + 1000) // 4).astype("<f4").tobytes()
    assert [end - begin for begin, end, _ in runs(TEXT[:5001] + floats)] == [LEAST_PIECE_NBYTES] * 2 + [1000]


PLAIN = {
    "text": TEXT * 8,
    "random": RNG.bytes(1_000_000),
    "compressed": zlib.compress(RNG.bytes(1_000_000)),
    "zeros": bytes(1_000_000),
    "small integers": RNG.integers(0, 1000, 200_000).astype("<i8").tobytes(),
    "bytes": RNG.normal(128, 30, 1_000_000).astype("<u1").tobytes(),
    "sound": (np.sin(np.arange(500_000) / 50) * 9000).astype("<i2").tobytes(),
}


@pytest.mark.parametrize("name", PLAIN)
def test_other_bytes_stay_one_span(name: str) -> None:
    assert found(PLAIN[name]) == [(0, len(PLAIN[name]), "")]


def test_little_is_read_of_what_holds_no_floats() -> None:
    asked = []

    def read(offset: int, nbytes: int) -> bytes:
        asked.append(nbytes)
        return PLAIN["text"][offset % 100_000 :][:nbytes]

    span = Span(0, 1 << 30, "", (), None)
    assert find_runs(Layout("opaque", (span,)), read).spans == (span,)
    assert sum(asked) < 200_000


def test_reading_is_bounded_however_long_the_floats_are() -> None:
    asked = []
    floats = TYPES["F32"](1 << 20)

    def read(offset: int, nbytes: int) -> bytes:
        asked.append(nbytes)
        start = (offset * 2_654_435_761 >> 20) % (len(floats) // 8) * 4
        return floats[start : start + nbytes]

    nbytes = 2 << 30
    layout = find_runs(Layout("opaque", (Span(0, nbytes, "", (), None),)), read)
    assert {span.dtype for span in layout.spans} == {"F32"}
    assert sum(asked) < nbytes // 60


def test_tensors_and_short_spans_are_left_as_they_are() -> None:
    content = TYPES["F32"](200_000)
    spans = (Span(0, 100_000, "U8", (100_000,), "a"), Span(100_000, LEAST_NBYTES - 1, "", (), None))
    assert find_runs(Layout("known", spans), lambda at, nbytes: content[at : at + nbytes]) == Layout("known", spans)


def test_a_span_of_a_known_format_keeps_its_place() -> None:
    content = TEXT[:1001] + TYPES["F32"](200_000)
    assert found(content, 1001) == [(1001, 201_001, "F32")]


def test_a_file_that_is_shorter_than_was_said_is_no_error() -> None:
    content = TYPES["F32"](100_000)
    layout = find_runs(
        Layout("opaque", (Span(0, 1 << 20, "", (), None),)), lambda at, nbytes: content[at : at + nbytes]
    )
    assert sum(span.nbytes for span in layout.spans) == 1 << 20


PARTS = st.sampled_from(
    [TEXT[:100_000], TYPES["F32"](150_000), TYPES["BF16"](70_002), bytes(5000), RNG.bytes(70_001), TYPES["F64"](80_000)]
)


@settings(max_examples=20)
@given(parts=st.lists(PARTS, min_size=1, max_size=6), cut=st.integers(0, 999))
def test_whatever_is_put_together_is_tiled_twice_alike(parts: list[bytes], cut: int) -> None:
    content = b"".join(parts)[cut:]
    assert found(content) == found(content)


def test_small_integers_are_cut_like_anything_else() -> None:
    """As F16 they are subnormals, which have no exponents to tell where a run ends; in other phases they are not."""
    for least in (0, 1, 3):
        rng = np.random.default_rng(9)
        for bits in range(1, 11):
            integers = rng.integers(least, least + (1 << bits), 60_000).astype("<u2")
            integers[::7] = 0
            for content in (integers.tobytes(), TEXT[:4001] + integers.tobytes(), bytes(70_000) + integers.tobytes()):
                found(content)
            if bits == 10 and integers.max() < 1 << 10:
                assert runs(integers.tobytes()) == []


def test_a_search_that_fails_costs_the_runs_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout("opaque", (Span(0, 100_000, "", (), None),))

    def fail(layout: Layout, read: object) -> Layout:
        raise IndexError("index 0 is out of bounds")

    monkeypatch.setattr(registry, "find_runs", fail)
    assert cut_runs(b"x", layout, lambda at, nbytes: bytes(nbytes), 100_000) == layout
    assert "the search for floats failed" in caplog.text
    monkeypatch.setattr(registry, "find_runs", lambda layout, read: Layout("opaque", layout.spans[:0]))
    assert cut_runs(b"x", layout, lambda at, nbytes: bytes(nbytes), 100_000) == layout


def test_what_reading_raises_is_raised() -> None:
    def read(at: int, nbytes: int) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        cut_runs(b"x", Layout("opaque", (Span(0, 100_000, "", (), None),)), read, 100_000)
