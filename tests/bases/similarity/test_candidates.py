"""What is still being coded is found as if it had been waited for: answers are the same, however late it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.stores import changed, weights
from zipfs.bases.similarity.alignment import Candidate
from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.features import TensorFeatures, read_features
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, PackName
from zipfs.store.store import Store, open_store

ITEMS = 20_000
NBYTES = 2 * ITEMS
FAMILIES = [weights(ITEMS, seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


def tensors(count: int) -> list[bytes]:
    chance = np.random.default_rng(8)
    return [changed(FAMILIES[chance.integers(3)], int(chance.integers(1, 9)), 0.5, seed) for seed in range(count)]


def features_of(raw: bytes) -> TensorFeatures:
    found = read_features(lambda offset, nbytes: raw[offset : offset + nbytes], len(raw), "BF16")
    assert found is not None
    return found


def sample_of(raw: bytes) -> MinhashSample:
    scan = SampleScan(len(raw), "BF16", (ITEMS,))
    scan.feed(0, raw)
    found = scan.sample()
    assert found is not None
    return found


def blob_of(number: int, base: BlobId | None) -> Blob:
    reference = None if base is None else BaseRef(base, View(0, NBYTES))
    fingerprint = b"%16d" % (number // 2)  # some seem to be equal
    frames = np.empty(0, np.uint32)
    return Blob(BlobId(number), NBYTES, fingerprint, "BF16", (ITEMS,), reference, PackName(bytes(16)), 0, frames)


class Late:
    """Says whether a blob has a base when it is waited for, or after some questions."""

    def __init__(self, is_member: bool, questions: int) -> None:
        self.is_member = is_member
        self.questions = questions
        self.was_waited_for = False

    def __call__(self, wait: bool) -> bool | None:
        self.questions -= 1
        self.was_waited_for |= wait and self.questions > 0
        return self.is_member if wait or self.questions <= 0 else None


def shown(found: list[Candidate]) -> list[tuple[int, str, bytes]]:
    return [(one.blob_id, type(one.sample).__name__, one.sample.encode()) for one in found]


def answers(search: CandidateSearch, number: int, raw: bytes) -> list[object]:
    """Everything that is asked about a tensor, in an order that depends on its number."""
    features, sample = features_of(raw), sample_of(raw)
    asked: list[Callable[[], object]] = [
        lambda: list(search.maybe_equal(b"%16d" % (number // 2), NBYTES)),
        lambda: search.of_same_length("BF16", NBYTES, features.signature),
        lambda: shown(search.with_common_keys(sample, NBYTES, None)),
        lambda: shown(search.members_of({BlobId(1), BlobId(2)})),
        lambda: search.siblings(BlobId(1), NBYTES, features.signature, 4),
    ]
    at = number % len(asked)
    return [question() for question in (*asked[at:], *asked[:at])]


@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_that_would_be_given_if_all_was_known(seed: int, store: Store) -> None:
    chance = np.random.default_rng(seed)
    early, late = CandidateSearch(store), CandidateSearch(store)
    for search in (early, late):
        search.begin()
    all_known = []
    for number, raw in enumerate(tensors(60), 1):
        assert answers(early, number, raw) == answers(late, number, raw), number
        wanted = BlobId(int(chance.integers(1, 4))) if number > 3 and chance.random() < 0.7 else None
        is_member = wanted is not None and chance.random() < 0.8
        known = Late(is_member, int(chance.integers(0, 40)))
        features, sample = features_of(raw), sample_of(raw)
        early.add(blob_of(number, wanted if is_member else None), features, sample)
        late.expect(blob_of(number, wanted), features, sample, known)
        all_known.append(known)
    assert answers(early, 99, FAMILIES[0]) == answers(late, 99, FAMILIES[0])
    assert {known.was_waited_for for known in all_known} == {False, True}


def test_what_an_answer_does_not_depend_on_is_not_waited_for(store: Store) -> None:
    search = CandidateSearch(store)
    search.begin()
    search.add(blob_of(1, None), features_of(FAMILIES[0]), sample_of(FAMILIES[0]))
    raw = changed(FAMILIES[0], 3, 0.5, 1)
    known = Late(True, 1000)
    search.expect(blob_of(4, BlobId(1)), features_of(raw), sample_of(raw), known)
    other = features_of(FAMILIES[1])
    assert list(search.maybe_equal(b"%16d" % 9, NBYTES)) == []
    assert search.of_same_length("BF16", NBYTES, other.signature) == []
    assert search.of_same_length("BF16", NBYTES // 2, features_of(raw).signature) == []
    assert search.with_common_keys(sample_of(FAMILIES[1]), NBYTES, None) == []
    assert search.members_of({BlobId(2)}) == []
    assert search.siblings(BlobId(2), NBYTES, other.signature, 4) == []
    assert not known.was_waited_for
    assert [blob_id for blob_id, _ in search.of_same_length("BF16", NBYTES, features_of(raw).signature)] == [1]
    assert known.was_waited_for


def test_what_will_not_come_is_not_found(store: Store) -> None:
    search = CandidateSearch(store)
    search.begin()
    raw = FAMILIES[0]
    for number in (1, 2):
        search.expect(
            blob_of(number, None if number == 1 else BlobId(1)), features_of(raw), sample_of(raw), Late(True, 9)
        )
    search.forget(BlobId(2))
    assert list(search.maybe_equal(b"%16d" % 1, NBYTES)) == []
    search.forget(BlobId(1))
    assert list(search.maybe_equal(b"%16d" % 0, NBYTES)) == []


@pytest.mark.parametrize("repeated", [1, 2, 40])
def test_the_keys_that_a_tensor_may_have_are_those_that_it_has_and_few_more(repeated: int) -> None:
    raw = weights(8000, 5) * repeated
    scan = SampleScan(len(raw), "BF16", (len(raw) // 2,))
    scan.feed(0, raw)
    sample = scan.sample()
    assert sample is not None
    keys = set(sample.kept(is_member=False).index_keys)
    assert keys <= sample.possible_index_keys()
    assert len(sample.possible_index_keys()) <= 64
