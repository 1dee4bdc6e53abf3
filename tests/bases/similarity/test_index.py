"""Similar tensors are found among any number of strangers; equal, constant and odd ones cost no time, break nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bases.similarity.test_choose_base import _cast, _weights, sketched
from zipfs.bases.planning.clusters import MOST, clusters
from zipfs.bases.planning.costs import ALL_CANDIDATES, make_cluster
from zipfs.bases.planning.planner import Tensor
from zipfs.bases.similarity.index import GroupIndex
from zipfs.bases.similarity.signature import RELATED, SIGNATURE_NBYTES, as_words, signature

Words = NDArray[np.uint64]


def _random_words(count: int, seed: int = 0) -> Words:
    return np.random.default_rng(seed).integers(0, 1 << 64, (count, 4), dtype=np.uint64)


def _turned(words: Words, bits: int, seed: int) -> Words:
    """A signature with so many bits turned."""
    turned = np.unpackbits(words.view(np.uint8))
    turned[np.random.default_rng(seed).permutation(256)[:bits]] ^= 1
    return np.packbits(turned).view(np.uint64)


def _signed(raw: bytes, dtype: str) -> Words:
    words: Words = as_words(signature(sketched(raw, dtype), dtype))[0]
    return words


def _distance(one: Words, other: Words) -> int:
    return int(np.bitwise_count(one ^ other).sum())


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64", "I8"])
def test_similar_tensors_differ_in_fewer_bits_than_strangers(dtype: str) -> None:
    weights = _weights(1, 50_000)
    mine = _signed(_cast(weights, dtype), dtype)
    for sigma in (1e-4, 1e-3, 1e-2, 3e-2):
        noise = np.random.default_rng(2).normal(0, sigma, weights.size)
        assert _distance(mine, _signed(_cast(weights + noise, dtype), dtype)) < RELATED
    for seed in range(20, 40):
        assert _distance(mine, _signed(_cast(_weights(seed, 50_000), dtype), dtype)) > RELATED


@pytest.mark.parametrize("raw", [b"", b"\0" * 40_000, b"\xff" * 40_000, b"\x80\x7f" * 300, bytes(range(256)) * 9])
@pytest.mark.parametrize("dtype", ["BF16", "F32", "I8", "F8_E4M3", ""])
def test_odd_tensors_have_a_signature(raw: bytes, dtype: str) -> None:
    assert len(signature(sketched(raw, dtype), dtype)) == SIGNATURE_NBYTES


def test_rubbish_has_an_empty_signature() -> None:
    assert signature(b"rubbish", "BF16") == bytes(SIGNATURE_NBYTES)


def test_the_nearest_come_first_among_a_hundred_thousand() -> None:
    words = _random_words(100_000)
    mine = _random_words(1, 9)[0]
    planted = {70_000: 5, 30: 20, 99_999: 40, 12_345: 60}
    for row, bits in planted.items():
        words[row] = _turned(mine, bits, row)
    index = GroupIndex()
    index.extend(np.arange(50_000) + 1, words[:50_000])
    index.extend(np.arange(50_000, 100_000) + 1, words[50_000:])
    assert index.near(mine, 64)[:4].tolist() == [70_001, 31, 100_000, 12_346]
    assert index.near(mine, 2).tolist() == [70_001, 31]


def test_of_equal_ones_a_few_of_the_newest_are_kept() -> None:
    words = np.repeat(_random_words(1), 50_000, axis=0)
    index = GroupIndex()
    index.extend(np.arange(50_000), words)
    assert len(index) < 10
    assert index.near(words[0], 3).tolist() == [49_999, 49_998, 49_997]


def test_equal_ones_that_come_one_by_one_do_not_pile_up() -> None:
    words = _random_words(2)
    index = GroupIndex()
    for number in range(5000):
        index.extend(np.array([number]), words[:1])
    index.extend(np.array([5000]), words[1:])
    assert len(index) < 200
    assert index.near(words[0], 2).tolist() == [4999, 4998]
    assert index.near(words[1], 9).tolist() == [5000]


def test_an_empty_index_finds_nothing() -> None:
    assert GroupIndex().near(_random_words(1)[0], 10).tolist() == []


def test_families_become_clusters_and_strangers_none() -> None:
    leaders = _random_words(40, 3)
    rows = [(family, _turned(leaders[family], 25, 100 * family + n)) for family in range(40) for n in range(6)]
    rows += [(-1, words) for words in _random_words(2000, 4)]
    order = np.random.default_rng(5).permutation(len(rows))
    found = clusters(np.stack([rows[at][1] for at in order]))
    families = sorted(sorted(rows[order[index]][0] for index in part) for part in found)
    assert families == [[family] * 6 for family in range(40)]


def test_a_tensor_between_two_strangers_brings_them_together() -> None:
    middle = _random_words(1, 6)[0]
    ends = _turned(middle, 60, 1), _turned(middle, 60, 2)
    assert _distance(*ends) > RELATED
    found = clusters(np.stack([*ends, middle, *_random_words(300, 8)]))
    assert [part.tolist() for part in found] == [[0, 1, 2]]


def test_many_equal_tensors_are_cut_into_clusters_that_can_be_planned() -> None:
    words = np.repeat(_random_words(2, 7), 30_000, axis=0)
    found = clusters(words)
    assert max(map(len, found)) <= MOST
    assert sum(map(len, found)) == 60_000
    assert all(len({words[index].tobytes() for index in part}) == 1 for part in found)


def test_leaders_are_compared_with_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.stack([*_random_words(300, 8), *_random_words(300, 8)])
    found = [part.tolist() for part in clusters(words)]
    monkeypatch.setattr("zipfs.bases.planning.clusters._LEADERS", 7)
    assert sorted(part.tolist() for part in clusters(words)) == sorted(found)
    assert len(found) == 300


def test_no_tensors_make_no_clusters() -> None:
    assert clusters(np.empty((0, 4), np.uint64)) == []
    assert clusters(_random_words(1)) == []


def test_of_a_large_family_the_ancestor_is_a_candidate() -> None:
    ancestor = _weights(11, 4000)
    rng = np.random.default_rng(12)
    raws = [_cast(ancestor + rng.normal(0, 1e-3, ancestor.size), "BF16") for _ in range(ALL_CANDIDATES + 40)]
    raws.insert(50, _cast(ancestor, "BF16"))
    tensors = [Tensor(n, 1000, None) for n in range(len(raws))]
    cluster = make_cluster("BF16", 8000, tensors, [sketched(raw, "BF16") for raw in raws])
    assert 50 in cluster.candidates
    assert len(cluster.candidates) < len(raws)
    ancestors_column = cluster.candidates.index(50)
    assert int(np.delete(cluster.against, 50, axis=0).mean(axis=0).argmin()) == ancestors_column


def test_bases_and_pinned_tensors_stay_candidates() -> None:
    sketches = [sketched(_cast(_weights(13, 900), "BF16"), "BF16")] * 3
    tensors = [Tensor(7, 900, None), Tensor(8, 90, 7), Tensor(9, 900, None, pinned=True)]
    cluster = make_cluster("BF16", 1800, tensors, sketches)
    assert cluster.candidates == (0, 2)
    assert cluster.against.shape == (3, 2)
