"""The sample of a member is a third of another one, and finds what is equal to some of it as before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import changed, weights
from zipfs.bases.similarity.alignment import Candidate, find_partial_matches
from zipfs.bases.similarity.member_sample import MemberSample, marks_of, member_sample, parse_member_sample
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.codec import FRAME_NBYTES

ROW = 128
ITEMS = 1200 * ROW
MEMBER = weights(ITEMS, 1)


def sampled(raw: bytes, dtype: str = "BF16", row: int = ROW) -> MinhashSample:
    scan = SampleScan(len(raw), dtype, (0, row))
    for at in range(0, len(raw), FRAME_NBYTES):
        scan.feed(at, raw[at : at + FRAME_NBYTES])
    sample = scan.sample()
    assert sample is not None
    return sample


def stored(raw: bytes, dtype: str = "BF16") -> MemberSample:
    """The sample of a member that has passed through a store."""
    sample = sampled(raw, dtype)
    parsed = parse_member_sample(member_sample(sample).encode(), sample.items)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(("dtype", "item"), [("BF16", 2), ("F32", 4), ("F64", 8), ("F8_E4M3", 1)])
@pytest.mark.parametrize("items", [4096, ITEMS, 1_200_000])
def test_what_is_stored_is_what_was_sampled(dtype: str, item: int, items: int) -> None:
    sample = sampled(np.random.default_rng(2).bytes(items * item), dtype)
    made = member_sample(sample)
    parsed = parse_member_sample(made.encode(), items)
    assert parsed is not None
    assert (parsed.items, parsed.stride, parsed.ceiling) == (items, made.stride, made.ceiling)
    assert np.array_equal(parsed.marks, made.marks)
    assert np.array_equal(parsed.places, sample.kept(is_member=True).places)
    assert len(made.encode()) <= 12 + 8 * made.marks.size


def test_a_sample_of_a_third_of_a_megabyte_takes_a_thousandth_of_it() -> None:
    raw = weights(150_000)
    assert len(member_sample(sampled(raw)).encode()) <= len(raw) / 1000


def test_places_with_other_items_or_another_hash_have_other_marks() -> None:
    sample, other = sampled(MEMBER).kept(is_member=True), sampled(changed(MEMBER, 1, 0.5, 3)).kept(is_member=True)
    common, mine, theirs = np.intersect1d(sample.hashes, other.hashes, return_indices=True)
    equal = (sample.runs[mine] == other.runs[theirs]).all(axis=1)
    assert 0 < np.count_nonzero(equal) < common.size
    assert np.array_equal(marks_of(sample)[mine] == marks_of(other)[theirs], equal)
    assert len(set(marks_of(sample).tolist())) == sample.hashes.size


def test_a_range_that_a_member_has_as_well_is_found() -> None:
    cut = MEMBER[2 * 300 * ROW : 2 * 900 * ROW]
    (match,) = find_partial_matches(sampled(cut), "BF16", 10.6, [Candidate(7, "BF16", stored(MEMBER))])
    assert (match.blob_id, match.distance, match.equal, match.is_member, match.bits) == (7, 300 * ROW, True, True, 0.0)
    assert match.cast is None


def test_a_range_that_only_resembles_some_of_a_member_is_not() -> None:
    near = changed(MEMBER, 2, 0.5, 4)[2 * 300 * ROW : 2 * 900 * ROW]
    assert find_partial_matches(sampled(near), "BF16", 10.6, [Candidate(7, "BF16", stored(MEMBER))]) == []


def test_a_member_of_another_type_is_not() -> None:
    wide = (np.frombuffer(MEMBER, "<u2").astype("<u4") << 16).tobytes()
    assert find_partial_matches(sampled(MEMBER), "BF16", 10.6, [Candidate(7, "F32", stored(wide, "F32"))]) == []


def test_a_sample_from_before_is_read_as_one() -> None:
    sample = sampled(MEMBER)
    before = sample.kept(is_member=True).encode()
    parsed = parse_member_sample(before, sample.items)
    assert parsed is not None
    assert parsed.encode() == member_sample(sample).encode()
    assert len(parsed.encode()) < len(before) / 3
    assert parse_member_sample(before, sample.items - 1) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:11],
        lambda raw: raw[:-1],
        lambda raw: b"\x03" + raw[1:],
        lambda raw: raw[:1] + b"\x03" + raw[2:],
        lambda raw: raw[:2] + b"\x03" + raw[3:],
        lambda raw: raw[:3] + b"\x01" + raw[4:],
        lambda raw: raw[:-2] + b"\xff\xff",  # a place beyond the end
    ],
)
def test_what_is_none_is_refused(damage: object) -> None:
    raw = member_sample(sampled(MEMBER)).encode()
    assert parse_member_sample(raw, ITEMS) is not None
    assert callable(damage)
    assert parse_member_sample(damage(raw), ITEMS) is None


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
def test_whatever_is_read_lies_in_the_tensor(raw: bytes, items: int) -> None:
    parsed = parse_member_sample(raw, items)
    assert parsed is None or bool((parsed.places < items).all())
