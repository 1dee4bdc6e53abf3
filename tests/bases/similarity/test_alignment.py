"""Ranges of other tensors are found from landmarks alone; what is no landmark, or says nothing, never harms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zipfs.bases.similarity.alignment import Candidate, Relative, find_relatives, settle
from zipfs.bases.similarity.minhash import LANDMARKS_MAX_NBYTES, Landmarks, Scan, parse_landmarks
from zipfs.codec import FRAME_NBYTES, Cast, encode_frame, item_nbytes

Floats = NDArray[np.float32]

ALONE = {"BF16": 10.6, "F16": 13.5, "F32": 26.5, "F8_E4M3": 6.5, "I8": 7.0}
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


def look(raw: bytes, dtype: str, shape: tuple[int, ...] = (0, ROW)) -> Landmarks | None:
    scan = Scan(len(raw), dtype, shape)
    for at in range(0, len(raw), FRAME_NBYTES):
        scan.feed(at, raw[at : at + FRAME_NBYTES])
    return scan.landmarks()


def found(mine: tuple[bytes, str], *others: tuple[bytes, str]) -> list[Relative]:
    """The relatives of a tensor among others, which have passed through a store."""
    candidates = []
    for blob_id, (raw, dtype) in enumerate(others):
        theirs = look(raw, dtype)
        if theirs is not None:
            stored = theirs.kept(is_member=False).encode()
            assert len(stored) <= LANDMARKS_MAX_NBYTES
            kept = parse_landmarks(stored)
            assert kept is not None
            candidates.append(Candidate(blob_id, dtype, kept))
    landmarks = look(*mine)
    return [] if landmarks is None else find_relatives(landmarks, mine[1], ALONE[mine[1]], candidates)


@pytest.mark.parametrize("mine", ALONE)
@pytest.mark.parametrize("theirs", ALONE)
def test_a_slice_finds_its_source_whatever_the_types(mine: str, theirs: str) -> None:
    values = weights(3000, 1)
    relatives = found((cast(values[500 * ROW : 1500 * ROW], mine), mine), (cast(values, theirs), theirs))
    if mine != theirs and "I8" in (mine, theirs):
        assert relatives == []
        return
    (relative,) = relatives
    assert (relative.start, relative.stop, relative.distance) == (0, 1000 * ROW, 500 * ROW)
    assert relative.cast == (None if mine == theirs else Cast(theirs, mine))
    assert relative.equal == (mine == theirs)
    assert (relative.bits == 0) == (theirs in ("F32", mine))


@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 4e-3])
@pytest.mark.parametrize("rows", [(0, 3000), (1200, 1800), (0, 900)])
def test_predicted_bits_are_near_the_coded_ones(sigma: float, rows: tuple[int, int]) -> None:
    values = weights(3000, 1)
    cut = slice(rows[0] * ROW, rows[1] * ROW)
    moved = values[cut] + np.random.default_rng(2).normal(0, sigma, values[cut].size).astype("<f4")
    mine, base = cast(moved, "BF16"), cast(values, "BF16")
    (relative,) = found((mine, "BF16"), (base, "BF16"))
    seen = base[2 * rows[0] * ROW : 2 * rows[1] * ROW]
    coded = len(encode_frame(mine, "BF16", seen, 0)) * 8 / moved.size
    assert relative.bits == pytest.approx(coded, rel=0.1, abs=0.1)


def test_the_nearest_of_several_is_taken() -> None:
    values = weights(2000, 1)
    rng = np.random.default_rng(3)
    others = [cast(values + rng.normal(0, sigma, values.size).astype("<f4"), "BF16") for sigma in (2e-3, 3e-4, 1e-3)]
    (relative,) = found((cast(values[: 900 * ROW], "BF16"), "BF16"), *((raw, "BF16") for raw in others))
    assert relative.blob_id == 1


def test_unrelated_tensors_have_no_relatives() -> None:
    others = [(cast(weights(2000, seed), "BF16"), "BF16") for seed in range(2, 42)]
    assert found((cast(weights(2000, 1), "BF16"), "BF16"), *others) == []


def test_each_part_of_a_fused_tensor_finds_its_own() -> None:
    parts = [weights(rows, seed) for seed, rows in enumerate((700, 300, 1000, 150))]
    fused = cast(np.concatenate(parts), "F16")
    relatives = found((fused, "F16"), *((cast(part, "F32"), "F32") for part in parts))
    assert [relative.blob_id for relative in relatives] == [0, 1, 2, 3]
    ends = np.cumsum([part.size for part in parts]).tolist()
    assert [relative.stop for relative in relatives] == pytest.approx(ends, abs=20 * ROW)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_ends_are_settled_where_the_resemblance_ends(data: st.DataObject) -> None:
    base = weights(600, 1)
    start, stop = sorted((data.draw(st.integers(0, 600)), data.draw(st.integers(0, 600))))
    front, back = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 300))
    if stop - start < 100:
        return
    exact = data.draw(st.booleans())
    moved = base if exact else base * 1.01
    mine = np.concatenate([weights(front, 2), moved[start * ROW : stop * ROW], weights(back, 3)])
    relatives = found((cast(mine, "BF16"), "BF16"), (cast(base, "BF16"), "BF16"))
    ours, theirs = (np.frombuffer(cast(values, "BF16"), "<u2") for values in (mine, base))

    def agrees(relative: Relative, first: int, last: int) -> bool:
        one, other = ours[first:last], theirs[first + relative.distance : last + relative.distance]
        return bool(np.array_equal(one, other) if relative.equal else ((one ^ other) < 0x8000).mean() >= 0.75)

    (relative,) = settle(relatives, mine.size, ROW, lambda blob_id: base.size, agrees)
    assert relative.distance == (start - front) * ROW
    # A few items beyond the end may happen to be equal too.
    assert relative.start == pytest.approx(front * ROW, abs=4 if exact else ROW)
    assert relative.stop == pytest.approx(mine.size - back * ROW, abs=4 if exact else ROW)


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
    mine = look(TRICKY[kind], "BF16")
    assert mine is None or mine.hashes.size <= 2 * 2048
    for relative in found((TRICKY[kind], "BF16"), (TRICKY[other], "BF16")):
        assert 0 <= relative.start < relative.stop <= len(TRICKY[kind]) // 2
        assert relative.start + relative.distance >= 0
        assert relative.stop + relative.distance <= len(TRICKY[other]) // 2
        assert (relative.stop - relative.start) * 2 >= 4096


def test_what_was_kept_is_read_back_and_anything_else_is_refused() -> None:
    landmarks = look(cast(weights(1000, 1), "BF16"), "BF16")
    assert landmarks is not None
    kept = landmarks.kept(is_member=False)
    stored = kept.encode()
    again = parse_landmarks(stored)
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
        assert parse_landmarks(wrong) is None


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_altered_landmarks_never_raise(data: st.DataObject) -> None:
    raw = cast(weights(200, 1), "BF16")
    mine = look(raw, "BF16")
    assert mine is not None
    stored = bytearray(mine.kept(is_member=False).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    theirs = parse_landmarks(bytes(stored))
    if theirs is not None:
        for relative in find_relatives(mine, "BF16", 10.6, [Candidate(1, "BF16", theirs)]):
            assert 0 <= relative.start < relative.stop <= mine.items
            assert 0 <= relative.start + relative.distance <= relative.stop + relative.distance <= theirs.items
