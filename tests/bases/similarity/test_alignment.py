"""Ranges of other tensors are found from samples alone; what is no sample, or says nothing, never harms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zipfs.bases.similarity.alignment import Candidate, PartialMatch, find_partial_matches, refine_ends
from zipfs.bases.similarity.minhash import SAMPLE_MAX_NBYTES, MinhashSample, SampleScan, parse_sample
from zipfs.bases.similarity.size_model import predict_residual
from zipfs.bases.similarity.sketch import SKETCH_MAX_NBYTES
from zipfs.codec import FRAME_NBYTES, Cast, encode_frame, item_nbytes

Floats = NDArray[np.float32]

STANDALONE = {"BF16": 10.6, "F16": 13.5, "F32": 26.5, "F8_E4M3": 6.5, "I8": 7.0}
ROW = 128


def weights(rows: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 0.05, rows * ROW).astype("<f4")


def cast(values: Floats, dtype: str) -> bytes:
    if dtype == "I8":
        return np.clip(np.rint(values * 300), -127, 127).astype(np.int8).tobytes()
    if dtype == "F32":
        return values.tobytes()
    out = bytearray(values.size * item_nbytes(dtype))
    Cast("F32", dtype).apply(values.tobytes(), out)
    return bytes(out)


def sampled(raw: bytes, dtype: str, shape: tuple[int, ...] = (0, ROW)) -> MinhashSample | None:
    scan = SampleScan(len(raw), dtype, shape)
    for at in range(0, len(raw), FRAME_NBYTES):
        scan.feed(at, raw[at : at + FRAME_NBYTES])
    return scan.sample()


def found(mine: tuple[bytes, str], *others: tuple[bytes, str]) -> list[PartialMatch]:
    """The matches of a tensor among others, which have passed through a store."""
    candidates = []
    for blob_id, (raw, dtype) in enumerate(others):
        theirs = sampled(raw, dtype)
        if theirs is not None:
            stored = theirs.kept(is_member=False).encode()
            assert len(stored) <= SAMPLE_MAX_NBYTES
            kept = parse_sample(stored)
            assert kept is not None
            candidates.append(Candidate(blob_id, dtype, kept))
    sample = sampled(*mine)
    return [] if sample is None else find_partial_matches(sample, mine[1], STANDALONE[mine[1]], candidates)


@pytest.mark.parametrize("mine", STANDALONE)
@pytest.mark.parametrize("theirs", STANDALONE)
def test_a_slice_finds_its_source_whatever_the_types(mine: str, theirs: str) -> None:
    values = weights(3000, 1)
    matches = found((cast(values[500 * ROW : 1500 * ROW], mine), mine), (cast(values, theirs), theirs))
    if mine != theirs and "I8" in (mine, theirs):
        assert matches == []
        return
    (match,) = matches
    assert (match.start, match.stop, match.distance) == (0, 1000 * ROW, 500 * ROW)
    assert match.cast == (None if mine == theirs else Cast(theirs, mine))
    assert match.equal == (mine == theirs)
    assert (match.bits == 0) == (theirs in ("F32", mine))


@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 4e-3])
@pytest.mark.parametrize("rows", [(0, 3000), (1200, 1800), (0, 900)])
def test_predicted_bits_are_near_the_coded_ones(sigma: float, rows: tuple[int, int]) -> None:
    values = weights(3000, 1)
    cut = slice(rows[0] * ROW, rows[1] * ROW)
    moved = values[cut] + np.random.default_rng(2).normal(0, sigma, values[cut].size).astype("<f4")
    mine, base = cast(moved, "BF16"), cast(values, "BF16")
    (match,) = found((mine, "BF16"), (base, "BF16"))
    seen = base[2 * rows[0] * ROW : 2 * rows[1] * ROW]
    coded = len(encode_frame(mine, "BF16", seen, 0)) * 8 / moved.size
    assert match.bits == pytest.approx(coded, rel=0.1, abs=0.1)


def test_the_nearest_of_several_is_taken() -> None:
    values = weights(2000, 1)
    rng = np.random.default_rng(3)
    others = [cast(values + rng.normal(0, sigma, values.size).astype("<f4"), "BF16") for sigma in (2e-3, 3e-4, 1e-3)]
    (match,) = found((cast(values[: 900 * ROW], "BF16"), "BF16"), *((raw, "BF16") for raw in others))
    assert match.blob_id == 1


def test_unrelated_tensors_match_nowhere() -> None:
    others = [(cast(weights(2000, seed), "BF16"), "BF16") for seed in range(2, 42)]
    assert found((cast(weights(2000, 1), "BF16"), "BF16"), *others) == []


def test_each_part_of_a_fused_tensor_finds_its_own() -> None:
    parts = [weights(rows, seed) for seed, rows in enumerate((700, 300, 1000, 150))]
    fused = cast(np.concatenate(parts), "F16")
    matches = found((fused, "F16"), *((cast(part, "F32"), "F32") for part in parts))
    assert [match.blob_id for match in matches] == [0, 1, 2, 3]
    ends = np.cumsum([part.size for part in parts]).tolist()
    assert [match.stop for match in matches] == pytest.approx(ends, abs=20 * ROW)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_ends_are_refined_where_the_resemblance_ends(data: st.DataObject) -> None:
    base = weights(600, 1)
    start, stop = sorted((data.draw(st.integers(0, 600)), data.draw(st.integers(0, 600))))
    front, back = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 300))
    if stop - start < 100:
        return
    exact = data.draw(st.booleans())
    moved = base if exact else base * 1.01
    mine = np.concatenate([weights(front, 2), moved[start * ROW : stop * ROW], weights(back, 3)])
    matches = found((cast(mine, "BF16"), "BF16"), (cast(base, "BF16"), "BF16"))
    ours, theirs = (np.frombuffer(cast(values, "BF16"), "<u2") for values in (mine, base))

    def agrees(match: PartialMatch, first: int, last: int) -> bool:
        one, other = ours[first:last], theirs[first + match.distance : last + match.distance]
        return bool(np.array_equal(one, other) if match.equal else ((one ^ other) < 0x8000).mean() >= 0.75)

    (match,) = refine_ends(matches, mine.size, ROW, lambda blob_id: base.size, agrees)
    assert match.distance == (start - front) * ROW
    # A few items beyond the end may happen to be equal too.
    assert match.start == pytest.approx(front * ROW, abs=4 if exact else ROW)
    assert match.stop == pytest.approx(mine.size - back * ROW, abs=4 if exact else ROW)


TRICKY: dict[str, bytes] = {
    "empty": b"",
    "tiny": bytes(range(64)),
    "zeros": bytes(400_000),
    "ones": b"\x80\x3f" * 200_000,
    "all negative": b"\x80\xbf" * 200_000,
    "NaNs": b"\xff\x7f" * 200_000,
    "NaNs of either sign": np.random.default_rng(1).choice([0x7FFF, 0xFFFF], 200_000).astype("<u2").tobytes(),
    "signs in turn": b"\x80\x3f\x80\xbf" * 100_000,
    "a short pattern": cast(weights(1, 5)[:61], "BF16") * 3000,
    "one row again and again": cast(weights(1, 6), "BF16") * 1500,
    "an odd end": cast(weights(1000, 7), "BF16") + b"!",
    "nearly all zeros": cast(weights(1000, 8) * (np.arange(1000 * ROW) % 50 == 0), "BF16"),
}


@pytest.mark.parametrize("kind", TRICKY)
@pytest.mark.parametrize("other", TRICKY)
def test_tensors_that_say_little_are_passed_over_quickly(kind: str, other: str) -> None:
    mine = sampled(TRICKY[kind], "BF16")
    assert mine is None or mine.hashes.size <= 2 * 2048
    for match in found((TRICKY[kind], "BF16"), (TRICKY[other], "BF16")):
        assert 0 <= match.start < match.stop <= len(TRICKY[kind]) // 2
        assert match.start + match.distance >= 0
        assert match.stop + match.distance <= len(TRICKY[other]) // 2
        assert (match.stop - match.start) * 2 >= 4096


def test_what_was_kept_is_read_back_and_anything_else_is_refused() -> None:
    sample = sampled(cast(weights(1000, 1), "BF16"), "BF16")
    assert sample is not None
    kept = sample.kept(is_member=False)
    stored = kept.encode()
    again = parse_sample(stored)
    assert again is not None
    for name in ("items", "item_nbytes", "stride", "ceiling"):
        assert getattr(again, name) == getattr(kept, name)
    for name in ("hashes", "places", "runs"):
        assert np.array_equal(getattr(again, name), getattr(kept, name))
    swapped = stored[:24] + stored[32:40] + stored[24:32] + stored[40:]
    for wrong in (
        b"", stored[:-1], stored + b"\0", stored[:23], b"\0" + stored[1:], stored[:1] + b"\3" + stored[2:],
        stored[:2] + b"\3" + stored[3:], stored[:3] + b"\1" + stored[4:], stored[:4] + b"\xff" * 4 + stored[8:],
        stored[:8] + bytes(8) + stored[16:], stored[:8] + b"\xff" * 8 + stored[16:], swapped,
    ):  # fmt: skip
        assert parse_sample(wrong) is None


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_altered_samples_never_raise(data: st.DataObject) -> None:
    raw = cast(weights(200, 1), "BF16")
    mine = sampled(raw, "BF16")
    assert mine is not None
    stored = bytearray(mine.kept(is_member=False).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    theirs = parse_sample(bytes(stored))
    if theirs is not None:
        for match in find_partial_matches(mine, "BF16", 10.6, [Candidate(1, "BF16", theirs)]):
            assert 0 <= match.start < match.stop <= mine.items
            assert 0 <= match.start + match.distance <= match.stop + match.distance <= theirs.items


@pytest.mark.parametrize("dtype", ["U8", "I32", "BF16", "F8_E4M3"])
def test_of_more_places_than_a_sketch_has_items_some_are_weighed(dtype: str) -> None:
    """All of them fall under one exponent of the base, or have none."""
    rng = np.random.default_rng(8)
    width = item_nbytes(dtype)
    bases = np.full((3 * SKETCH_MAX_NBYTES, width), 0x38, np.uint8)
    items = bases.copy()
    items[:, 0] ^= rng.integers(0, 2, len(items), np.uint8)
    few = predict_residual(items[:SKETCH_MAX_NBYTES], bases[:SKETCH_MAX_NBYTES], dtype)
    assert predict_residual(items, bases, dtype) == pytest.approx(few, abs=0.1)
