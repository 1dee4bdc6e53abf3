"""Owns the minhash sample of a tensor: at most 4 KiB by which ranges of it are found in others of any float type.

It lists places (the tables of the catalog call them landmarks). A place is sampled whose following signs hash to one of
the lowest values in the tensor, and is listed with that hash and the items at it.  Two tensors that share a range
share the places sampled in it, at places that differ by the same number of items: the hashes choose the places, so it
does not matter where in either tensor the range lies (bottom-k sampling of shingles: A. Broder, On the resemblance and
containment of documents, 1997).

Stored as a header of 24 bytes, little-endian {u8 version, u8 item size, u8 stride, u8 zero, u32 count, u64 items, u64
ceiling}, then `count` hashes (u64, ascending), places (u32, in strides) and runs of 4 items.

Pure but for `SampleScan`, which one thread feeds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from zipfs.codec import item_nbytes
from zipfs.codec.signs import SAMPLE_ITEMS, find_minhash_samples
from zipfs.dtypes import row_items

if TYPE_CHECKING:
    from typing_extensions import Buffer

SAMPLE_MAX_NBYTES: Final = 4096
_NBYTES_PER_PLACE: Final = 1024
_NBYTES_PER_PLACE_OF_MEMBER: Final = 6144
"""Of a tensor that has a base itself only what is equal to some of it is found by its sample: fewer places suffice."""
_LEAST_KEPT: Final = 16
_NBYTES_PER_KEY: Final = 16384
_LEAST_KEYS: Final = 8
_MAX_KEYS: Final = 32
"""Enough for a slice of a sixteenth to have two, of which one may not survive."""
_LEAST_REPEATED: Final = 0.2
RUN_ITEMS: Final = 4
LEAST_ITEMS: Final = 2048
"""Smaller tensors are not sampled: what they could gain is not worth the search."""

_HEADER: Final = struct.Struct("<BBBBIQQ")
VERSION: Final = 1
_ALL: Final = (1 << 64) - 1
_NBYTES_PER_SOUGHT: Final = 768
_LEAST_SOUGHT: Final = 64
_MAX_SOUGHT: Final = 2048
"""Places that are found in a tensor and compared with others'; those of what is large and put together need more
than the lowest that are kept.
"""
_SLACK: Final = 512
"""Room in a piece for more places than are expected there; the rest of such a piece is passed over."""


@dataclass(frozen=True, slots=True)
class MinhashSample:
    """Sampled places of a tensor of `items` items, in ascending order of hash.

    `hashes` uint64 (n,), `places` int64 (n,) in items, `runs` uint8 (n, RUN_ITEMS * item size).  Every place of the
    tensor whose hash is at most `ceiling` is listed, the first one of each hash at least.
    """

    items: int
    item_nbytes: int
    stride: int
    ceiling: int
    hashes: NDArray[np.uint64]
    places: NDArray[np.int64]
    runs: NDArray[np.uint8]

    @property
    def index_keys(self) -> list[int]:
        """Return the hashes by which others look the tensor up, as signed integers of 64 bits."""
        count = min(_MAX_KEYS * (8 // self.stride), max(_LEAST_KEYS, self.items * self.item_nbytes // _NBYTES_PER_KEY))
        hashes: list[int] = self.hashes[:count].view(np.int64).tolist()
        return hashes

    def possible_index_keys(self) -> set[int]:
        """Return the index keys that a standalone tensor would have, and maybe some more, sooner than `kept` does."""
        keys = _MAX_KEYS * (8 // self.stride)
        lowest: set[int] = set(self.hashes[: 2 * keys].view(np.int64).tolist())
        if len(lowest) >= keys and self.items <= 1 << 32:
            return lowest  # each of them is kept
        return set(self.kept(is_member=False).index_keys)

    def repetition(self) -> int:
        """Return after how many items a good part of the tensor comes again, as often as it may; 0 if none does."""
        same = np.flatnonzero(self.hashes[1:] == self.hashes[:-1])
        if same.size < _LEAST_REPEATED * self.hashes.size:
            return 0
        # Of equal hashes places are in ascending order, because sorting was stable.
        distances, counts = np.unique(self.places[same + 1] - self.places[same], return_counts=True)
        best = int(np.argmax(counts))
        return int(distances[best]) if counts[best] >= _LEAST_REPEATED * self.hashes.size else 0

    def kept(self, *, is_member: bool) -> MinhashSample:
        """Return the places that a store keeps: of the lowest hashes, once each, as many as SAMPLE_MAX_NBYTES hold.

        Fewer if `is_member`: if the tensor is coded against a base.
        """
        fits = (SAMPLE_MAX_NBYTES - _HEADER.size) // (12 + self.runs.shape[1]) * (8 // self.stride)
        apart_nbytes = _NBYTES_PER_PLACE_OF_MEMBER if is_member else _NBYTES_PER_PLACE
        fits = min(fits, max(_LEAST_KEPT, self.items * self.item_nbytes // apart_nbytes))
        is_first = np.append(True, self.hashes[1:] != self.hashes[:-1])
        first = np.flatnonzero(is_first & (self.places < self.stride << 32))
        ceiling = self.ceiling if first.size <= fits else int(self.hashes[first[fits - 1]])
        first = first[:fits]
        return replace(
            self, ceiling=ceiling, hashes=self.hashes[first], places=self.places[first], runs=self.runs[first]
        )

    def encode(self) -> bytes:
        """Return the stored form of what `kept` gave."""
        count = self.hashes.size
        header = _HEADER.pack(VERSION, self.item_nbytes, self.stride, 0, count, self.items, self.ceiling)
        places = (self.places // self.stride).astype("<u4")
        return b"".join((header, self.hashes.astype("<u8").tobytes(), places.tobytes(), self.runs.tobytes()))


def parse_sample(stored: bytes) -> MinhashSample | None:
    """Return the sample that `encode` made `stored` of, or None if that cannot be."""
    if len(stored) < _HEADER.size:
        return None
    version, item, stride, zero, count, items, ceiling = _HEADER.unpack_from(stored)
    run = RUN_ITEMS * item
    if version != VERSION or item not in (1, 2, 4, 8) or stride not in (1, 2, 4, 8) or zero:
        return None
    if len(stored) != _HEADER.size + count * (12 + run) or items >> 60:
        return None
    hashes = np.frombuffer(stored, "<u8", count, _HEADER.size)
    places = np.frombuffer(stored, "<u4", count, _HEADER.size + 8 * count).astype(np.int64) * stride
    runs = np.frombuffer(stored, np.uint8, count * run, _HEADER.size + 12 * count).reshape(count, run)
    if count and (int(places.max()) + SAMPLE_ITEMS > items or np.any(hashes[1:] <= hashes[:-1])):
        return None
    return MinhashSample(items, item, stride, ceiling, hashes, places, runs)


class SampleScan:
    """Samples a tensor of `nbytes` bytes as its bytes pass by; `shape` counts weights."""

    def __init__(self, nbytes: int, dtype: str, shape: Sequence[int]) -> None:
        self._item = item_nbytes(dtype)
        self._items = nbytes // self._item if dtype else 0
        self._stride = math.gcd(8, row_items(dtype, shape) or self._items)
        places = max(1, self._items // self._stride)
        # Of the places that are looked at only those that are whole strides in others as well can be theirs.
        self._sought = min(max(_LEAST_SOUGHT, nbytes // _NBYTES_PER_SOUGHT), _MAX_SOUGHT) * (8 // self._stride)
        self._ceiling = _ALL if places <= self._sought else self._sought * (_ALL // places)
        self._hashes: list[NDArray[np.uint64]] = []
        self._places: list[NDArray[np.int64]] = []
        self._runs: list[NDArray[np.uint8]] = []

    def feed(self, offset: int, data: Buffer) -> None:
        """Look at bytes from `offset` on, a multiple of 64; what lies across the end of `data` is not seen."""
        if self._items < LEAST_ITEMS:
            return
        raw = np.frombuffer(memoryview(data), np.uint8)
        expected = raw.size // self._item * self._sought // self._items
        hashes, places = find_minhash_samples(raw.data, self._item, self._stride, self._ceiling, 4 * expected + _SLACK)
        if hashes.size:
            at = places.astype(np.int64) * self._item
            self._hashes.append(hashes)
            self._places.append(places + np.int64(offset // self._item))
            self._runs.append(raw[at[:, None] + np.arange(RUN_ITEMS * self._item)])

    def sample(self) -> MinhashSample | None:
        """Return the sample; None of a tensor in which nothing was found."""
        if not self._hashes:
            return None
        hashes, places, runs = np.concatenate(self._hashes), np.concatenate(self._places), np.concatenate(self._runs)
        order = np.argsort(hashes, kind="stable")[: 2 * self._sought]
        ceiling = self._ceiling if order.size == hashes.size else int(hashes[order[-1]])
        return MinhashSample(self._items, self._item, self._stride, ceiling, hashes[order], places[order], runs[order])
