"""Owns how the search is judged: time and memory of the index, and whom it finds."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from zipfs.bases.planning.clusters import clusters
from zipfs.bases.similarity.index import GroupIndex
from zipfs.bases.similarity.signature import BITS, WORDS, Bits

QUERIES: Final = 50
TURNED: Final = (2, 10, 25, 40, 54)
"""Bits in which a relative differs: 54 is the limit of what is worth coding (signature.py)."""


@dataclass(frozen=True, slots=True)
class Query:
    """An index of `tensors` candidates in one group; times in seconds, medians of QUERIES."""

    tensors: int
    build_s: float
    index_nbytes: int
    query_s: float
    recall: float
    """How often a relative, planted at one of TURNED bits, comes first."""


def measure_index(tensors: int, seed: int = 0) -> Query:
    """All tensors in one group, coded standalone: the worst case. In a hub the bases of one length are far fewer."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 64, (tensors, WORDS), dtype=np.uint64)
    begin = time.perf_counter()
    index = GroupIndex()
    index.extend(np.arange(tensors) + 1, words)
    build_s = time.perf_counter() - begin
    taken, hits = [], 0
    for number in range(QUERIES):
        planted = int(rng.integers(tensors))
        mine = _turned(words[planted], TURNED[number % len(TURNED)], rng)
        begin = time.perf_counter()
        found = index.near(mine, 32)
        taken.append(time.perf_counter() - begin)
        hits += len(found) > 0 and int(found[0]) == planted + 1
    return Query(tensors, build_s, index.nbytes, statistics.median(taken), hits / QUERIES)


def _turned(words: Bits, bits: int, rng: np.random.Generator) -> Bits:
    turned = np.unpackbits(words.view(np.uint8))
    turned[rng.permutation(BITS)[:bits]] ^= 1
    return np.packbits(turned).view(np.uint64)


def measure_clusters(tensors: int, members: int, seed: int = 0) -> tuple[float, int]:
    """Seconds to divide a group of families of `members` each, and how many clusters are found."""
    rng = np.random.default_rng(seed)
    leaders = rng.integers(0, 1 << 64, (tensors // members, WORDS), dtype=np.uint64)
    words = np.repeat(leaders, members, axis=0)
    turned = np.unpackbits(words.view(np.uint8), axis=1)
    turned ^= rng.random(turned.shape, np.float32) < 0.05
    words = np.packbits(turned, axis=1).view(np.uint64)[rng.permutation(len(words))]
    begin = time.perf_counter()
    found = clusters(words)
    return time.perf_counter() - begin, len(found)
