"""Owns the minhash sample of a member: by it only ranges that are equal to some of a tensor are found.

Nothing is coded against what has a base itself, so that neither items nor whole hashes are kept of its places: a mark
stands for both, and a place that has the mark of another one very likely is equal to it. Whoever shares a range
compares its bytes.

Stored as a header of 12 bytes, little-endian {u8 version, u8 stride, u8 bytes of a place, u8 zero, u64 ceiling}, then
marks (u32, in ascending order of their hashes) and places (u16 or u32, in strides). Before, the sample of a member was
stored as any other. Pure; any thread may call.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.similarity.minhash import RUN_ITEMS, MinhashSample, parse_sample
from zipfs.codec.signs import SAMPLE_ITEMS

Marks = NDArray[np.uint32]

_HEADER: Final = struct.Struct("<BBBBQ")
_VERSION: Final = 2
_MARK_NBYTES: Final = 4
_PLACE_TYPES: Final = {2: "<u2", 4: "<u4"}
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_FOLDED_BITS: Final = np.uint64(32)


@dataclass(frozen=True, slots=True)
class MemberSample:
    """Sampled places of a tensor of `items` items that has a base.

    `marks` uint32 (n,), `places` int64 (n,) in items. `stride` and `ceiling` are those of its `MinhashSample`.
    """

    items: int
    stride: int
    ceiling: int
    marks: Marks
    places: NDArray[np.int64]

    def encode(self) -> bytes:
        """Return the stored form."""
        places = self.places // self.stride
        width = 2 if not places.size or int(places.max()) < 1 << 16 else 4
        header = _HEADER.pack(_VERSION, self.stride, width, 0, self.ceiling)
        return b"".join((header, self.marks.astype("<u4").tobytes(), places.astype(_PLACE_TYPES[width]).tobytes()))


def member_sample(sample: MinhashSample) -> MemberSample:
    """Return what is kept of the sample of a tensor that is coded against a base."""
    kept = sample.kept(is_member=True)
    return MemberSample(kept.items, kept.stride, kept.ceiling, marks_of(kept), kept.places)


def marks_of(sample: MinhashSample) -> Marks:
    """Return a mark of each place, uint32 (n,): of its hash and the items at it."""
    marks = sample.hashes.astype(np.uint64)
    runs = np.ascontiguousarray(sample.runs).view("<u4").reshape(-1, RUN_ITEMS * sample.item_nbytes // 4)
    for column in range(runs.shape[1]):
        marks = (marks ^ (marks >> _FOLDED_BITS) ^ runs[:, column]) * _MULTIPLIER
    return (marks >> _FOLDED_BITS).astype(np.uint32)


def parse_member_sample(stored: bytes, items: int) -> MemberSample | None:
    """Return the sample of a tensor of `items` items that `stored` was made of, or None if that cannot be."""
    if len(stored) < _HEADER.size:
        return None
    if stored[0] != _VERSION:
        sample = parse_sample(stored)
        return None if sample is None or sample.items != items else member_sample(sample)
    _, stride, width, zero, ceiling = _HEADER.unpack_from(stored)
    count, rest = divmod(len(stored) - _HEADER.size, _MARK_NBYTES + width)
    if stride not in (1, 2, 4, 8) or width not in _PLACE_TYPES or zero or rest:
        return None
    marks = np.frombuffer(stored, "<u4", count, _HEADER.size)
    at = _HEADER.size + _MARK_NBYTES * count
    places = np.frombuffer(stored, _PLACE_TYPES[width], count, at).astype(np.int64) * stride
    if count and int(places.max()) + SAMPLE_ITEMS > items:
        return None
    return MemberSample(items, stride, ceiling, marks, places)
