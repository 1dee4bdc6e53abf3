"""Owns the alignment of tensors: ranges of one that resemble ranges of others, found from their minhash samples.

MinhashSample of two tensors that agree vote for the distance between their places.  The distance with the most to gain
takes the range that its votes span; the rest of the tensor is left to the next one.  Pure; any thread may call.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.similarity.member_sample import Marks, MemberSample, marks_of
from zipfs.bases.similarity.minhash import MinhashSample
from zipfs.bases.similarity.scale import cast_array, estimate_scale
from zipfs.bases.similarity.size_model import predict_residual
from zipfs.codec import FLOATS, Cast, item_nbytes

_LEAST_RANGE_NBYTES: Final = 4096
_LEAST_RANGE_OF_LARGE_NBYTES: Final = 64 << 10
_LEAST_SHARE: Final = 16
_LEAST_SAVED_NBYTES: Final = 512
"""About what a blob takes in index and catalog."""

_LEAST_VOTES: Final = 3
_LEAST_BY_SCALE_BITS: Final = 0.1
_LEAST_EQUAL: Final = 5
"""So many sampled places one after the other must be equal before all between them is expected to be."""
_MAX_RANGES: Final = 256
_PROBE_ITEMS: Final = 256
"""Signs that are compared at once: of unrelated items half agree, give or take a tenth."""
_PLAUSIBLE_MISSES: Final = 3.0
"""So many hits that should be and are not say that the resemblance has ended."""

Runs = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tensor that may be a base, of safetensors type `dtype`; or only shared where it is equal, if it has a base."""

    blob_id: int
    dtype: str
    sample: MinhashSample | MemberSample

    @property
    def is_member(self) -> bool:
        return isinstance(self.sample, MemberSample)

    @property
    def index_keys(self) -> list[int]:
        """Return the hashes by which others look the tensor up; none of a member."""
        return [] if isinstance(self.sample, MemberSample) else self.sample.index_keys


@dataclass(frozen=True, slots=True)
class PartialMatch:
    """Items [start, stop) of a tensor resemble those of blob `blob_id` that lie `distance` further on, if cast so.

    `bits` is the predicted size of an item coded against them; they are `equal` if all items that were compared are,
    without a cast.  A member has a base itself: then nothing can be coded against it, only shared with it.
    """

    start: int
    stop: int
    blob_id: int
    distance: int
    cast: Cast | None
    bits: float
    equal: bool
    is_member: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """Sampled places, as indices, that vote for one distance to one candidate; `bits` are predicted of an item."""

    candidate: Candidate
    cast: Cast | None
    distance: int
    mine: NDArray[np.intp]
    bits: float
    equal: bool


class _Ranked:
    """A group in the order of what coding against its candidate is likely to save."""

    __slots__ = ("_rank", "group")

    def __init__(self, group: _Group, mine: MinhashSample, standalone_bits: float) -> None:
        self.group = group
        saved_bits = _spanned(mine, group) * (standalone_bits - group.bits)
        self._rank = (-saved_bits, group.cast is not None, group.candidate.blob_id)

    def __lt__(self, other: _Ranked) -> bool:
        return self._rank < other._rank


def find_partial_matches(
    mine: MinhashSample, dtype: str, standalone_bits: float, candidates: Sequence[Candidate]
) -> list[PartialMatch]:
    """Return ranges of a tensor of type `dtype` that resemble ranges of candidates, apart from each other, in order.

    Only what is predicted to take less than `standalone_bits` an item is listed.
    """
    taken = np.zeros(mine.places.size, np.bool_)
    free = [(0, mine.items)]
    found: list[PartialMatch] = []
    # A heap by what they save, which only falls as others take places of theirs.
    groups = [_Ranked(group, mine, standalone_bits) for group in _groups(mine, dtype, standalone_bits, candidates)]
    heapq.heapify(groups)
    while groups and len(found) < _MAX_RANGES:
        ranked = heapq.heappop(groups)
        group = replace(ranked.group, mine=ranked.group.mine[~taken[ranked.group.mine]])
        if group.mine.size < _LEAST_VOTES:
            continue
        if group.mine.size < ranked.group.mine.size:
            heapq.heappush(groups, _Ranked(group, mine, standalone_bits))
            continue
        match = _widest(mine, group, free)
        if match is None:
            continue
        inside = (mine.places >= match.start) & (mine.places < match.stop)
        if not _is_worth_it(match, mine, standalone_bits):
            group = replace(group, mine=group.mine[~inside[group.mine]])
            if group.mine.size < _LEAST_VOTES:
                continue
        else:
            found.append(match)
            free = _without(free, match.start, match.stop)
            taken |= inside
        heapq.heappush(groups, _Ranked(group, mine, standalone_bits))
    return _joined(sorted(found, key=lambda match: match.start))


def _spanned(mine: MinhashSample, group: _Group) -> float:
    """Return about how many items a group speaks for, however many places are kept of its candidate."""
    listed = int(np.searchsorted(mine.hashes, np.uint64(group.candidate.sample.ceiling), side="right"))
    return mine.items * group.mine.size / max(listed, 1)


def least_range_nbytes(nbytes: int) -> int:
    """Return what a range of a tensor of `nbytes` bytes must have to be worth a blob of its own."""
    return max(_LEAST_RANGE_NBYTES, min(_LEAST_RANGE_OF_LARGE_NBYTES, nbytes // _LEAST_SHARE))


def _is_worth_it(match: PartialMatch, mine: MinhashSample, standalone_bits: float) -> bool:
    count = match.stop - match.start
    saved_nbytes = count * (standalone_bits - match.bits) / 8
    least = least_range_nbytes(mine.items * mine.item_nbytes)
    return count * mine.item_nbytes >= least and saved_nbytes >= _LEAST_SAVED_NBYTES


def _joined(matches: Sequence[PartialMatch]) -> list[PartialMatch]:
    """Join neighbours that are one range."""
    joined: list[PartialMatch] = []
    for match in matches:
        last = joined[-1] if joined else None
        if last is not None and replace(last, start=match.start, stop=match.stop) == match:
            joined[-1] = replace(last, stop=match.stop)
        else:
            joined.append(match)
    return joined


def _cast(dtype: str, theirs: str) -> tuple[Cast | None, bool]:
    """Return how items of type `theirs` become ones of `dtype`, and whether they can."""
    if dtype in FLOATS and theirs in FLOATS and dtype != theirs:
        return Cast(theirs, dtype), True
    return None, dtype == theirs


def _groups(mine: MinhashSample, dtype: str, standalone_bits: float, candidates: Sequence[Candidate]) -> list[_Group]:
    votes: list[tuple[Candidate, Cast | None, int, NDArray[np.intp], NDArray[np.intp]]] = []
    marks = marks_of(mine)
    for candidate in candidates:
        cast, possible = _cast(dtype, candidate.dtype)
        if not possible or not candidate.sample.places.size:
            continue
        if isinstance(candidate.sample, MemberSample):
            if cast is not None:
                continue
            hits, at = _equal(marks, candidate.sample)
        elif candidate.sample.item_nbytes != item_nbytes(candidate.dtype):
            continue
        else:
            hits, at = _alike(mine, candidate.sample)
        distances = candidate.sample.places[at] - mine.places[hits]
        order = np.argsort(distances, kind="stable")
        values, first, counts = np.unique(distances[order], return_index=True, return_counts=True)
        for distance, begin, count in zip(values.tolist(), first.tolist(), counts.tolist(), strict=True):
            if count >= _LEAST_VOTES:
                of_group = order[begin : begin + count]
                votes.append((candidate, cast, distance, hits[of_group], at[of_group]))
    votes.sort(key=lambda vote: -vote[3].size)
    groups = []
    for candidate, cast, distance, of_mine, of_theirs in votes[:_MAX_RANGES]:
        if isinstance(candidate.sample, MemberSample):
            group = _Group(candidate, None, distance, of_mine, 0.0, equal=True)
        else:
            theirs = candidate.sample.runs[of_theirs]
            group = _weighed(candidate, cast, distance, of_mine, mine.runs[of_mine], theirs)
        if group.bits < standalone_bits:
            groups.append(group)
    return groups


def _alike(mine: MinhashSample, theirs: MinhashSample) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of both, as indices, that have the same hash."""
    at = np.minimum(np.searchsorted(theirs.hashes, mine.hashes), theirs.hashes.size - 1)
    hits = np.flatnonzero(theirs.hashes[at] == mine.hashes)
    return hits, at[hits]


def _equal(marks: Marks, theirs: MemberSample) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places with `marks`, and those of a member, as indices, that have the same mark."""
    order = np.argsort(theirs.marks, kind="stable")
    ordered = theirs.marks[order]
    at = np.minimum(np.searchsorted(ordered, marks), ordered.size - 1)
    hits = np.flatnonzero(ordered[at] == marks)
    return hits, order[at[hits]]


def _weighed(
    candidate: Candidate, cast: Cast | None, distance: int, of_mine: NDArray[np.intp], ours: Runs, theirs: Runs
) -> _Group:
    """Return a group with its predicted bits, and with a scale if that makes them less."""
    if cast is None:
        bits = _bits(ours, theirs, candidate.dtype, None)
        return _Group(candidate, None, distance, of_mine, bits, bool(np.array_equal(ours, theirs)))
    bits = _bits(ours, theirs, cast.target, cast)
    scale = estimate_scale(ours, theirs, cast)
    if scale is not None:
        scaled = replace(cast, scale=scale)
        scaled_bits = _bits(ours, theirs, cast.target, scaled)
        if scaled_bits < bits - _LEAST_BY_SCALE_BITS:
            cast, bits = scaled, scaled_bits
    return _Group(candidate, cast, distance, of_mine, bits, equal=False)


def _bits(ours: Runs, theirs: Runs, dtype: str, cast: Cast | None) -> float:
    bases = np.ascontiguousarray(theirs) if cast is None else cast_array(theirs, cast)
    if np.array_equal(ours.ravel(), bases.ravel()):
        return 0.0
    items = -1, item_nbytes(dtype)
    return predict_residual(ours.reshape(items), bases.reshape(items), dtype)


def _widest(mine: MinhashSample, group: _Group, free: Sequence[tuple[int, int]]) -> PartialMatch | None:
    """Return the longest range that the votes of a group speak for, within one of the ranges that are free."""
    theirs = group.candidate.sample
    places = mine.places[group.mine]
    begin, end = max(
        free, key=lambda span: int(np.count_nonzero((places >= span[0]) & (places < span[1]))), default=(0, 0)
    )
    begin, end = max(begin, -group.distance), min(end, theirs.items - group.distance)
    listed = np.flatnonzero((mine.hashes <= theirs.ceiling) & (mine.places >= begin) & (mine.places < end))
    listed = listed[np.argsort(mine.places[listed], kind="stable")]
    hits = np.isin(listed, group.mine)
    if np.count_nonzero(hits) < _LEAST_VOTES:
        return None
    first, last = _longest(hits) if group.candidate.is_member else _densest(hits)
    if group.candidate.is_member and last - first + 1 < min(_LEAST_EQUAL, hits.size):
        return None
    share = float(hits[first : last + 1].mean())
    start, stop = begin, end
    if first * share > _PLAUSIBLE_MISSES:
        start = int(mine.places[listed[max(0, first - int(0.5 / share))]])
    if (hits.size - 1 - last) * share > _PLAUSIBLE_MISSES:
        stop = int(mine.places[listed[min(hits.size - 1, last + 1 + int(0.5 / share))]])
    candidate = group.candidate
    return PartialMatch(
        start, stop, candidate.blob_id, group.distance, group.cast, group.bits, group.equal, candidate.is_member
    )


def _longest(hits: NDArray[np.bool_]) -> tuple[int, int]:
    """Return first and last index of the longest stretch without a miss."""
    misses = np.flatnonzero(~np.concatenate(([False], hits, [False])))
    gaps = np.diff(misses)
    at = int(np.argmax(gaps))
    return int(misses[at]), int(misses[at + 1]) - 2


def _densest(hits: NDArray[np.bool_]) -> tuple[int, int]:
    """Return first and last index of the stretch in which hits outweigh misses the most (J. Kadane's maximal sum)."""
    share = float(hits.mean())
    scores = np.where(hits, 1.0, -min(1.0, 0.5 * share / max(1.0 - share, 1e-9)))
    sums = np.concatenate(([0.0], np.cumsum(scores)))
    lowest = np.minimum.accumulate(sums)
    last = int(np.argmax(sums[1:] - lowest[:-1]))
    first = int(np.argmin(sums[: last + 1]))
    return first, last


def _without(free: Sequence[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    pieces = []
    for begin, end in free:
        for left, right in ((begin, min(end, start)), (max(begin, stop), end)):
            if left < right:
                pieces.append((left, right))
    return pieces


Agrees = Callable[[PartialMatch, int, int], bool]
"""Whether items [start, stop) of a tensor have the signs of those of the base, or equal them if the match does."""


def refine_ends(
    matches: Sequence[PartialMatch], items: int, row_items: int, items_of: Callable[[int], int], agrees: Agrees
) -> list[PartialMatch]:
    """Return partial matches of a tensor of `items` items with their ends where the resemblance ends; samples tell
    these roughly.

    `items_of(blob_id)` is the length of a base.  A match grows into what is free beside it and into half of another
    that is there, or shrinks, by some twenty calls of `agrees` where it does not simply reach the end of either tensor.
    One that is equal ends at the last item that is; others where a row of `row_items` ends, if one ends nearby.
    """
    refined: list[PartialMatch] = []
    for at, match in enumerate(matches):
        least = max(0, -match.distance, refined[-1].stop if refined else 0)
        most = min(items, items_of(match.blob_id) - match.distance)
        if at + 1 < len(matches):
            following = matches[at + 1]
            most = min(most, (following.start + following.stop) // 2)
        middle = min(max((match.start + match.stop) // 2, least), most)
        start, stop = (_edge(middle, end, match, row_items, agrees) for end in (least, most))
        if stop > start:
            refined.append(replace(match, start=start, stop=stop))
    return refined


def _edge(inside: int, end: int, match: PartialMatch, row_items: int, agrees: Agrees) -> int:
    """Return how far towards `end` the items agree, from `inside` where they do."""
    step = 1 if end > inside else -1
    good, bad = 0, abs(end - inside)

    def agree(distance: int) -> bool:
        first, last = sorted((inside + step * max(0, distance - _PROBE_ITEMS), inside + step * distance))
        return agrees(match, first, last)

    if agree(bad):
        return end
    while bad - good > (1 if match.equal else _PROBE_ITEMS // 8):
        half = (good + bad) // 2
        if agree(half):
            good = half
        else:
            bad = half
    edge = inside + step * good
    row_end = round(edge / row_items) * row_items
    within = min(inside, end) <= row_end <= max(inside, end)
    return row_end if not match.equal and within and abs(row_end - edge) <= _PROBE_ITEMS else edge
