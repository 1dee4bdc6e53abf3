"""Partial matches are searched where they can gain something, with their ends refined; damage finds nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.stores import changed, weights
from zipfs.bases.similarity.alignment import Candidate, PartialMatch
from zipfs.bases.similarity.member_sample import member_sample
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.bases.similarity.partial_matches import search_partial_matches
from zipfs.errors import Damaged
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, PackName

ROW = 128
ROWS = 1000
MINE = weights(ROWS * ROW, 1)
STANDALONE_BITS = 10.6
FIRST, SECOND = BlobId(1), BlobId(2)


def rows(raw: bytes, start: int, stop: int) -> bytes:
    return raw[2 * ROW * start : 2 * ROW * stop]


def sampled(raw: bytes) -> MinhashSample:
    scan = SampleScan(len(raw), "BF16", (len(raw) // 2 // ROW, ROW))
    scan.feed(0, raw)
    sample = scan.sample()
    assert sample is not None
    return sample


@dataclass(slots=True)
class FakeSearch:
    """Candidates in memory instead of a catalog."""

    standalone: Mapping[BlobId, bytes]
    members: Mapping[BlobId, bytes] = field(default_factory=dict)
    asked_for_members_of: list[set[BlobId]] = field(default_factory=list)

    def with_common_keys(self, sample: MinhashSample, nbytes: int, besides: BlobId | None) -> list[Candidate]:
        del sample, nbytes, besides
        return [Candidate(blob_id, "BF16", sampled(raw)) for blob_id, raw in self.standalone.items()]

    def members_of(self, base_ids: set[BlobId]) -> list[Candidate]:
        self.asked_for_members_of.append(base_ids)
        return [Candidate(blob_id, "BF16", member_sample(sampled(raw))) for blob_id, raw in self.members.items()]


@dataclass(slots=True)
class FakeContent:
    """The bytes of the tensor and of blobs; `damaged` ones cannot be opened."""

    raw: bytes
    blobs: Mapping[BlobId, bytes]
    damaged: frozenset[BlobId] = frozenset()
    compared: int = 0

    def blob(self, blob_id: BlobId) -> Blob:
        if blob_id in self.damaged:
            raise Damaged(f"blob {blob_id}", "cannot be read")
        nbytes = len(self.blobs[blob_id])
        frames = np.array([nbytes], np.uint32)
        return Blob(blob_id, nbytes, b"", "BF16", (nbytes // 2,), None, PackName(b"p" * 16), 0, frames)

    def coded_nbytes(self, blob_id: BlobId) -> float:
        raise AssertionError(f"nothing is coded against blob {blob_id} to find ranges")

    def agrees(self, match: PartialMatch, start: int, stop: int) -> bool:
        self.compared += 1
        at = 2 * match.distance
        mine = np.frombuffer(self.raw[2 * start : 2 * stop], "<u2")
        theirs = np.frombuffer(self.blobs[BlobId(match.blob_id)][2 * start + at : 2 * stop + at], "<u2")
        return bool(np.array_equal(mine, theirs) if match.equal else np.array_equal(mine >> 15, theirs >> 15))


def search(
    found: FakeSearch, content: FakeContent, *, base: BaseRef | None = None, members: bool = False
) -> Sequence[PartialMatch]:
    shape = (len(content.raw) // 2 // ROW, ROW)
    return search_partial_matches(
        found,  # type: ignore[arg-type]
        sampled(content.raw),
        "BF16",
        shape,
        len(content.raw),
        STANDALONE_BITS,
        base,
        content,
        members=members,
    )


def ranges(matches: Sequence[PartialMatch]) -> list[tuple[int, int, int, int]]:
    return [(match.start, match.stop, match.blob_id, match.distance) for match in matches]


def test_two_stacked_tensors_are_found_with_their_ends_at_the_very_item() -> None:
    blobs = {FIRST: rows(MINE, 0, 403), SECOND: rows(MINE, 403, ROWS)}
    content = FakeContent(MINE, blobs)
    matches = search(FakeSearch(blobs), content)
    cut = 403 * ROW
    assert ranges(matches) == [(0, cut, FIRST, 0), (cut, ROWS * ROW, SECOND, -cut)]
    assert all(match.equal for match in matches)


def test_a_range_that_only_resembles_another_ends_where_a_row_ends() -> None:
    raw = changed(rows(MINE, 0, 501), 2, 0.1, 3) + weights((ROWS - 501) * ROW, 9)
    blobs = {FIRST: MINE}
    (match,) = search(FakeSearch(blobs), FakeContent(raw, blobs))
    assert (match.start, match.stop, match.distance, match.equal) == (0, 501 * ROW, 0, False)


def test_a_match_of_the_whole_tensor_is_not_refined() -> None:
    blobs = {FIRST: weights(7 * ROW, 5) + MINE}
    content = FakeContent(MINE, {FIRST: MINE})
    assert ranges(search(FakeSearch({FIRST: MINE}), content)) == [(0, ROWS * ROW, FIRST, 0)]
    assert content.compared == 0
    moved = FakeContent(MINE, blobs)
    assert ranges(search(FakeSearch(blobs), moved)) == [(0, ROWS * ROW, FIRST, 7 * ROW)]
    assert moved.compared > 0


@pytest.mark.parametrize("others", [{}, {FIRST: MINE}], ids=["nothing", "the-base"])
def test_nothing_is_searched_beyond_the_base_that_is_all_that_looks_alike(others: dict[BlobId, bytes]) -> None:
    content = FakeContent(changed(MINE, 2, 0.1, 3), others)
    base = BaseRef(FIRST, View(0, len(MINE)))
    assert search(FakeSearch(others), content, base=base) == []
    assert content.compared == 0


def test_another_candidate_beside_the_base_is_searched() -> None:
    blobs = {FIRST: MINE, SECOND: rows(MINE, 0, 600)}
    base = BaseRef(FIRST, View(0, len(MINE)))
    assert search(FakeSearch(blobs), FakeContent(MINE, blobs), base=base)


def test_members_are_asked_for_only_where_a_base_is_not_equal_itself() -> None:
    member = changed(MINE, 2, 0.3, 4)
    blobs = {FIRST: MINE, SECOND: member}
    raw = rows(member, 200, 800)
    equal = FakeSearch({FIRST: rows(member, 100, 900)}, {SECOND: member})
    search(equal, FakeContent(raw, {**blobs, FIRST: rows(member, 100, 900)}), members=True)
    assert equal.asked_for_members_of == []
    without = FakeSearch({FIRST: MINE}, {SECOND: member})
    (match,) = search(without, FakeContent(raw, blobs))
    assert (match.blob_id, match.is_member) == (FIRST, False)
    assert without.asked_for_members_of == []
    found = FakeSearch({FIRST: MINE}, {SECOND: member})
    (match,) = search(found, FakeContent(raw, blobs), members=True)
    assert (match.blob_id, match.is_member, match.equal) == (SECOND, True, True)
    assert found.asked_for_members_of == [{FIRST}]


def test_what_cannot_be_read_finds_nothing_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    blobs = {FIRST: rows(MINE, 0, 403), SECOND: rows(MINE, 403, ROWS)}
    with caplog.at_level(logging.ERROR):
        assert search(FakeSearch(blobs), FakeContent(MINE, blobs, frozenset({SECOND}))) == []
    assert "blob 2" in caplog.text
    assert "no ranges are aligned" in caplog.text
