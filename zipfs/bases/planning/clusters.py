"""Owns the division of a group of tensors into clusters whose members may be related.  Pure; any thread may call.

Leaders are taken in order: a tensor that is near a leader joins it, one that is near two joins their clusters, any
other becomes a leader.  What is worth coding one against the other lies well within the threshold (signature.py), so
that a cluster may be too large, which costs time, but holds whom it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.similarity.signature import RELATED, RELATED_SO_FAR, WORDS, Bits

Indices = NDArray[np.intp]

MOST: Final = 2048
"""Tensors of a cluster; a larger one is cut. One base more for so many members is next to nothing."""
_BLOCK: Final = 256
_LEADERS: Final = 1 << 13
"""Compared with a block at once: 16 MiB of differences."""


def clusters(words: Bits) -> list[Indices]:
    """Return the indices of the signatures, uint64 of (tensors, WORDS), that belong together, clusters of one left out.

    Of more than MOST tensors that belong together, those with equal and near signatures stay together.
    """
    if not len(words):
        return []
    unique, inverse = np.unique(words, axis=0, return_inverse=True)
    of_unique = _lead(unique)
    labels = of_unique[inverse.reshape(-1)]
    order = np.lexsort((np.arange(len(words)), inverse.reshape(-1), labels))
    borders = np.flatnonzero(np.diff(labels[order])) + 1
    return [part for found in np.split(order, borders) for part in _cut(found, words) if len(part) > 1]


def _cut(found: Indices, words: Bits) -> Iterator[Indices]:
    if len(found) <= MOST:
        yield np.sort(found)
        return
    by_distance = np.argsort(_distances(words[found], words[found[0]]), kind="stable")
    for start in range(0, len(found), MOST):
        yield np.sort(found[by_distance[start : start + MOST]])


def _near(some: Bits, others: Bits) -> tuple[Indices, Indices]:
    """Return all related pairs, as indices in `some` and in `others`; by the first word, and the others where that
    is near.
    """
    found = [
        _near_block(some, others[start : start + _LEADERS], start) for start in range(0, max(len(others), 1), _LEADERS)
    ]
    return np.concatenate([rows for rows, _ in found]), np.concatenate([columns for _, columns in found])


def _near_block(some: Bits, others: Bits, start: int) -> tuple[Indices, Indices]:
    first = np.bitwise_count(some[:, None, 0] ^ others[None, :, 0])
    rows, columns = np.nonzero(first <= RELATED_SO_FAR[0])
    related = _distances(some[rows], others[columns]) <= RELATED
    return rows[related], columns[related] + start


def _distances(some: Bits, others: Bits) -> NDArray[np.int64]:
    """Return the differing bits of each row of `some` and that of `others`."""
    differing: NDArray[np.int64] = np.bitwise_count(some ^ others).sum(axis=1, dtype=np.int64)
    return differing


class _Labels:
    """Sets of leaders that have been joined; a leader's number is its index."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def add(self) -> None:
        self._parent.append(len(self._parent))

    def root(self, leader: int) -> int:
        while self._parent[leader] != leader:
            self._parent[leader] = self._parent[self._parent[leader]]
            leader = self._parent[leader]
        return leader

    def join(self, one: int, other: int) -> None:
        self._parent[self.root(one)] = self.root(other)


def _lead(words: Bits) -> Indices:
    """Return a label for each of some unequal signatures."""
    labels = _Labels()
    leaders = np.empty((0, WORDS), np.uint64)
    led_by = np.full(len(words), -1, np.intp)
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        led_here = led_by[start : start + _BLOCK]
        _follow(led_here, *_near(block, leaders), labels)
        unled = np.flatnonzero(led_here < 0)
        rows, columns = _near(block[unled], block[unled])
        fresh = _first_of_each(len(unled), rows, columns)
        number = np.full(len(unled), -1, np.intp)
        number[fresh] = np.arange(len(leaders), len(leaders) + len(fresh))
        for _ in fresh:
            labels.add()
        led = np.isin(columns, fresh)
        _follow(led_here, unled[rows[led]], number[columns[led]], labels)
        leaders = np.concatenate([leaders, block[unled[fresh]]])
    return np.array([labels.root(leader) for leader in led_by.tolist()], np.intp)


def _first_of_each(count: int, rows: Indices, columns: Indices) -> Indices:
    """Return those of `count` items that no earlier one is near to."""
    borders = np.searchsorted(rows, np.arange(count + 1))
    covered = np.zeros(count, bool)
    first = []
    for row in range(count):
        if not covered[row]:
            first.append(row)
            covered[columns[borders[row] : borders[row + 1]]] = True
    return np.array(first, np.intp)


def _follow(led_by: Indices, rows: Indices, leaders: Indices, labels: _Labels) -> None:
    """Note that each row is near each leader beside it; whoever is near two joins them."""
    for row, leader in zip(rows.tolist(), leaders.tolist(), strict=True):
        if led_by[row] < 0:
            led_by[row] = leader
        else:
            labels.join(leader, int(led_by[row]))
