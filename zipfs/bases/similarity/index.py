"""Owns the index over the signatures of one group: tensors of one dtype and length that may serve as bases.

`near` is a scan, so it misses nothing that the thresholds of `signature` let through: one word a tensor is compared,
and the others of the few that pass.  It takes 8 bytes of memory traffic a tensor, and 40 bytes of memory.  Used by one
thread.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.similarity.signature import RELATED, RELATED_SO_FAR, WORDS, Bits

Ids = NDArray[np.int64]

_BLOCK: Final = 1 << 16
"""Tensors compared at once, so that the differences stay in the second-level cache."""
_FEW: Final = 1024
"""So few are compared whole: the steps of sieving them would take longer."""
_EQUAL_KEPT: Final = 4
"""Of tensors with one and the same signature the newest are kept: the others would only be in the way."""


class GroupIndex:
    """Ids and signatures of a group, in order of their ids."""

    def __init__(self) -> None:
        self._ids: Ids = np.empty(0, np.int64)
        self._words: Bits = np.empty((WORDS, 0), np.uint64)
        self._size = 0
        self._differing = np.empty(_BLOCK, np.uint64)
        self._counts = np.empty(_BLOCK, np.uint8)

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        return self._ids.nbytes + self._words.nbytes

    def extend(self, ids: Ids, words: Bits) -> None:
        """Add tensors: ids int64 of (n,), signatures uint64 of (n, WORDS)."""
        kept = _newest_of_equals(words)
        ids, words = ids[kept], words[kept]
        if self._size + len(ids) > len(self._ids):
            self._grow(len(ids))
        needed = self._size + len(ids)
        self._ids[self._size : needed] = ids
        self._words[:, self._size : needed] = words.T
        self._size = needed

    def _grow(self, more: int) -> None:
        """Make room for so many more tensors, and let go of equal ones that came one by one."""
        kept = _newest_of_equals(self._words[:, : self._size].T)
        self._size = len(kept)
        free = max(64, (self._size + more) // 4) + more
        self._ids = np.concatenate([self._ids[kept], np.empty(free, np.int64)])
        self._words = np.concatenate([self._words[:, kept], np.empty((WORDS, free), np.uint64)], axis=1)

    def near(self, mine: Bits, at_most: int) -> Ids:
        """Return ids of the tensors whose signatures differ least from `mine`, uint64 of (WORDS,), the nearest first.

        None that differs in more than RELATED bits; of equally near ones the newest come first.
        """
        if not self._size:
            return np.empty(0, np.int64)
        passed = [self._passed(start, mine) for start in range(0, self._size, _BLOCK)]
        rows = np.concatenate([part[0] for part in passed])
        distances = np.concatenate([part[1] for part in passed])
        rank = distances * len(self._ids) - rows
        if len(rows) > at_most:
            nearest = np.argpartition(rank, at_most - 1)[:at_most]
            rows, rank = rows[nearest], rank[nearest]
        found: Ids = self._ids[rows[np.argsort(rank)]]
        return found

    def _passed(self, start: int, mine: Bits) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return rows of a block that are related, and their distances."""
        count = min(_BLOCK, self._size - start)
        if count <= _FEW:
            distances = np.bitwise_count(self._words[:, start : start + count].T ^ mine).sum(axis=1, dtype=np.int64)
            rows = np.flatnonzero(distances <= RELATED)
            return rows + start, distances[rows]
        differing, counts = self._differing[:count], self._counts[:count]
        np.bitwise_xor(self._words[0, start : start + count], mine[0], out=differing)
        np.bitwise_count(differing, out=counts)
        rows = np.flatnonzero(counts <= RELATED_SO_FAR[0])
        distances = counts[rows].astype(np.int64)
        rows += start
        for word in range(1, WORDS):
            distances += np.bitwise_count(self._words[word, rows] ^ mine[word])
            related = distances <= RELATED_SO_FAR[word]
            rows, distances = rows[related], distances[related]
        return rows, distances


def _newest_of_equals(words: Bits) -> NDArray[np.intp]:
    """Return indices, ascending, of rows of which fewer than _EQUAL_KEPT equal ones follow."""
    if len(words) <= _EQUAL_KEPT:
        return np.arange(len(words))
    order = np.lexsort(words.T)
    ordered = words[order]
    later = np.zeros(len(words), bool)
    later[:-_EQUAL_KEPT] = (ordered[:-_EQUAL_KEPT] == ordered[_EQUAL_KEPT:]).all(axis=1)
    return np.sort(order[~later])
