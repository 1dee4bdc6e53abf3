"""The best base is found from sketches alone, useless ones are refused, and rubbish never raises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zipfs.bases import SKETCH_MAX_NBYTES, choose_base, predict_against, predict_standalone, sketch
from zipfs.codec import encode_frame, read_header

Floats = NDArray[np.float64]

DTYPES = ["BF16", "F16", "F32", "F64", "I8", "U8", "I64", "BOOL", "F8_E4M3", "F4", "C64", ""]


def sketched(raw: bytes | memoryview, dtype: str) -> bytes:
    view = memoryview(raw)
    return sketch(lambda offset, nbytes: bytes(view[offset : offset + nbytes]), view.nbytes, dtype)


def _cast(values: Floats, dtype: str) -> bytes:
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4")
        rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        return rounded.tobytes()
    if dtype == "I8":
        return np.clip(np.rint(values * 300), -127, 127).astype(np.int8).tobytes()
    narrowed: NDArray[Any] = values.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype])
    return narrowed.tobytes()


def _weights(seed: int, items: int) -> Floats:
    """Rows of uneven scale, as in real matrices."""
    rng = np.random.default_rng(seed)
    scale = np.repeat(rng.uniform(0.5, 2.0, items // 64 + 1), 64)[:items]
    return rng.normal(0, 0.05, items) * scale


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64", "I8"])
def test_the_nearest_of_fifty_is_chosen(dtype: str) -> None:
    rng = np.random.default_rng(1)
    ancestor = _weights(0, 100_000)
    mine = _cast(ancestor, dtype)
    sigmas = np.geomspace(4e-4, 3e-2, 25)
    related = [_cast(ancestor + rng.normal(0, sigma, ancestor.size), dtype) for sigma in sigmas]
    others = [_cast(_weights(seed, ancestor.size), dtype) for seed in range(100, 125)]
    candidates = [(n, sketched(raw, dtype)) for n, raw in enumerate([*related[::-1], *others])]
    choice = choose_base(sketched(mine, dtype), len(mine), dtype, candidates)
    assert choice is not None
    assert choice.blob_id in (23, 24)
    assert choice.predicted_nbytes < 0.95 * choice.predicted_standalone_nbytes


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("items", [64, 384, 5000, 300_000])
def test_unrelated_tensors_of_one_shape_are_refused(dtype: str, items: int) -> None:
    mine = _cast(_weights(1, items), dtype)
    candidates = [(seed, sketched(_cast(_weights(seed, items), dtype), dtype)) for seed in range(2, 52)]
    assert choose_base(sketched(mine, dtype), len(mine), dtype, candidates) is None


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("sigma", [1e-4, 3e-4, 1e-3, 1e-2])
def test_predictions_are_near_the_coded_size(dtype: str, sigma: float) -> None:
    weights = _weights(3, (1 << 20) // {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}[dtype])
    base = _cast(weights, dtype)
    mine = _cast(weights + np.random.default_rng(4).normal(0, sigma, weights.size), dtype)
    bits_per_byte = 8 / weights.size
    standalone = len(encode_frame(mine, dtype, None, 0)) * bits_per_byte
    against = len(encode_frame(mine, dtype, base, 0)) * bits_per_byte
    assert predict_standalone(sketched(mine, dtype), dtype) == pytest.approx(standalone, rel=0.02)
    assert predict_against(sketched(mine, dtype), [sketched(base, dtype)], dtype)[0] == pytest.approx(against, rel=0.06)


def test_the_choice_agrees_with_what_the_codec_makes_of_it() -> None:
    rng = np.random.default_rng(6)
    for items in (2000, 20_000):
        weights = _weights(5, items)
        mine = _cast(weights, "BF16")
        for sigma in (1e-4, 1e-3, 0.3, 3.0):
            base = _cast(weights + rng.normal(0, sigma, items), "BF16")
            choice = choose_base(sketched(mine, "BF16"), len(mine), "BF16", [(9, sketched(base, "BF16"))])
            frame = encode_frame(mine, "BF16", base, 0)
            assert (choice is not None) == read_header(frame).needs_base
            if choice is not None:
                assert choice.blob_id == 9
                assert choice.predicted_nbytes == pytest.approx(len(frame), rel=0.12)


def test_an_equal_tensor_is_the_best_base_of_all() -> None:
    mine = _cast(_weights(7, 50_000), "BF16")
    near = _cast(_weights(7, 50_000) + 1e-4, "BF16")
    choice = choose_base(
        sketched(mine, "BF16"), len(mine), "BF16", [(1, sketched(near, "BF16")), (2, sketched(mine, "BF16"))]
    )
    assert choice is not None
    assert choice.blob_id == 2
    assert choice.predicted_nbytes < len(mine) // 500


def test_of_equal_candidates_the_first_is_taken() -> None:
    stored = sketched(_cast(_weights(8, 9000), "BF16"), "BF16")
    choice = choose_base(stored, 18_000, "BF16", [(5, stored), (3, stored), (4, stored)])
    assert choice is not None
    assert choice.blob_id == 5


def test_a_constant_tensor_needs_no_base() -> None:
    zeros, other = bytes(80_000), _cast(_weights(9, 20_000), "F32")
    candidates = [(1, sketched(other, "F32")), (2, sketched(zeros, "F32"))]
    assert choose_base(sketched(zeros, "F32"), len(zeros), "F32", candidates) is None


def test_nans_are_bits_like_any_others() -> None:
    weights = _weights(10, 40_000)
    weights[::7] = np.nan
    mine = _cast(weights, "F32")
    choice = choose_base(
        sketched(mine, "F32"), len(mine), "F32", [(1, sketched(_cast(weights * 1.0001, "F32"), "F32"))]
    )
    assert choice is not None


@settings(deadline=None, max_examples=200)
@given(raw=st.binary(max_size=70) | st.integers(0, 9000).map(bytes), dtype=st.sampled_from(DTYPES))
def test_any_tensor_has_a_small_sketch_that_is_no_base_of_itself_when_tiny(raw: bytes, dtype: str) -> None:
    mine = sketched(raw, dtype)
    assert len(mine) <= SKETCH_MAX_NBYTES
    assert mine == sketched(memoryview(raw), dtype)
    standalone = predict_standalone(mine, dtype)
    assert standalone >= 0.0
    choice = choose_base(mine, len(raw), dtype, [(1, mine)])
    assert choice is None or len(raw) > 100


def test_no_candidates_and_empty_tensors_give_no_choice() -> None:
    full = sketched(b"x" * 100, "U8")
    assert choose_base(full, 100, "U8", []) is None
    assert choose_base(sketched(b"", "F32"), 0, "F32", [(1, sketched(b"", "F32")), (2, full)]) is None
    assert choose_base(sketched(b"abc", "F32"), 3, "F32", [(1, sketched(b"abc", "F32"))]) is None


def test_a_tensor_smaller_than_the_sample_is_its_own_sketch() -> None:
    raw = _cast(_weights(11, 500), "BF16")
    assert sketched(raw, "BF16").endswith(raw)


def test_positions_depend_on_the_length_alone_and_spread_over_the_tensor() -> None:
    positions = np.arange(1_000_000, dtype="<u4")
    first = np.frombuffer(sketched(positions.tobytes(), "F32")[16:], "<u4")
    again = np.frombuffer(sketched((positions + 7).tobytes(), "F32")[16:], "<u4")
    assert np.array_equal(again, first + 7)
    assert np.all(np.diff(first.astype(np.int64)) > 0)
    assert first[0] < 20_000
    assert first[-1] > 980_000


@pytest.mark.parametrize("items", [1008, 1009, 1010, 1500, 2047, 2048, 65_537])
def test_runs_stay_within_tensors_of_awkward_lengths(items: int) -> None:
    for odd in (b"", b"!"):
        stored = sketched(bytes(range(1, 3)) * items + odd, "BF16")
        assert set(stored[16:]) == {1, 2}
        assert predict_standalone(stored, "BF16") < 1.0


def _rubbish() -> list[bytes]:
    good = sketched(_cast(_weights(12, 9000), "BF16"), "BF16")
    return [
        b"",
        b"\1",
        good[:-1],
        good + b"\0",
        good[:16],
        b"\2" + good[1:],
        good[:1] + b"\3" + good[2:],
        good[:1] + b"\4" + good[2:],
        good[:2] + b"\1" + good[3:],
        good[:5] + b"\1" + good[6:],
        good[:8] + b"\xff" * 8 + good[16:],
        good[:8] + bytes(8) + good[16:],
        bytes(len(good)),
    ]


def test_malformed_candidates_are_passed_over() -> None:
    raw = _cast(_weights(12, 9000), "BF16")
    mine = sketched(raw, "BF16")
    candidates = [(n, stored) for n, stored in enumerate(_rubbish())]
    assert choose_base(mine, len(raw), "BF16", candidates) is None
    choice = choose_base(mine, len(raw), "BF16", [*candidates, (99, mine)])
    assert choice is not None
    assert choice.blob_id == 99


def test_a_malformed_sketch_of_ones_own_gives_no_choice() -> None:
    good = sketched(_cast(_weights(12, 9000), "BF16"), "BF16")
    for stored in _rubbish():
        assert choose_base(stored, 18_000, "BF16", [(1, good)]) is None


@settings(deadline=None, max_examples=200)
@given(mine=st.binary(max_size=300), other=st.binary(max_size=300), dtype=st.sampled_from(DTYPES))
def test_random_sketches_never_raise(mine: bytes, other: bytes, dtype: str) -> None:
    header = b"\1\2\0\0\0\0\0\0" + len(other).to_bytes(8, "little")
    for left in (mine, header + other):
        for right in (other, header + other):
            choice = choose_base(left, len(other), dtype, [(1, right), (2, mine)])
            assert choice is None or choice.blob_id in (1, 2)


def test_tensors_of_other_lengths_and_item_sizes_are_passed_over() -> None:
    raw = _cast(_weights(13, 9000), "BF16")
    candidates = [(1, sketched(raw + b"\0\0", "BF16")), (2, sketched(raw, "F32")), (3, sketched(raw, ""))]
    assert choose_base(sketched(raw, "BF16"), len(raw), "BF16", candidates) is None


def test_between_candidates_that_look_alike_the_codec_decides() -> None:
    ancestor = _weights(14, 400_000)
    rng = np.random.default_rng(15)
    raws = [_cast(ancestor + rng.normal(0, sigma, ancestor.size), "BF16") for sigma in (1.02e-3, 1e-3, 1.01e-3, 2e-2)]
    mine = _cast(ancestor, "BF16")
    candidates = [(n, sketched(raw, "BF16")) for n, raw in enumerate(raws)]
    asked: list[int] = []

    def probe(blob_id: int) -> float:
        asked.append(blob_id)
        return len(encode_frame(mine, "BF16", raws[blob_id], 0))

    choice = choose_base(sketched(mine, "BF16"), len(mine), "BF16", candidates, probe=probe)
    assert choice is not None
    assert choice.blob_id == 1
    assert sorted(asked) == [0, 1, 2]  # the last one is worse beyond doubt


def test_one_clear_winner_is_not_tried() -> None:
    mine = _cast(_weights(7, 50_000), "BF16")
    far = _cast(_weights(7, 50_000) + np.random.default_rng(1).normal(0, 1e-2, 50_000), "BF16")
    candidates = [(1, sketched(far, "BF16")), (2, sketched(mine, "BF16"))]

    def probe(blob_id: int) -> float:
        raise AssertionError(blob_id)

    choice = choose_base(sketched(mine, "BF16"), len(mine), "BF16", candidates, probe=probe)
    assert choice is not None
    assert choice.blob_id == 2
