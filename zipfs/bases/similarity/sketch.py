"""Owns the sketch: at most 2 KiB that stand for a tensor when the coded size against a base is predicted.

A sketch is a 16-byte little-endian header {u8 version, u8 item size, u16 zero, u32 zero, u64 tensor bytes} and the
values of short runs at positions that depend on the tensor's length and item size alone, so that two sketches of equal
headers hold the same positions.  Pure; any thread may call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from zipfs.codec import item_nbytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

LEAST_NBYTES: Final = 256
"""What smaller tensors could gain, the headers of their frames take."""

LEAST_MEMBER_NBYTES: Final = 4096
"""A smaller tensor that has a base keeps it: a sketch would be as large as the tensor, and all there is to gain."""

SKETCH_MAX_NBYTES: Final = 2048

_HEADER: Final = struct.Struct("<BBHIQ")
_VERSION: Final = 1
_RUN_NBYTES: Final = 32
"""Short runs meet more rows with the same bytes; a run of 32 bytes costs one page, so a sketch touches 63 of them."""

_RUNS: Final = (SKETCH_MAX_NBYTES - _HEADER.size) // _RUN_NBYTES
_SAMPLE_NBYTES: Final = _RUNS * _RUN_NBYTES


@dataclass(frozen=True, slots=True)
class Samples:
    """A parsed sketch: the tensor's length in bytes, its item size, and sampled items, uint8 of (items, item size)."""

    tensor_nbytes: int
    item_nbytes: int
    items: NDArray[np.uint8]

    @property
    def is_whole(self) -> bool:
        """Return whether these are all items of the tensor."""
        return self.items.size + self.item_nbytes > self.tensor_nbytes


def sketch(read: Callable[[int, int], bytes], nbytes: int, dtype: str) -> bytes:
    """Return the sketch of a tensor of `nbytes` bytes and safetensors `dtype`; a short tensor is kept whole.

    `read(offset, length)` returns exactly those bytes of it: a large tensor is never in memory as a whole.
    """
    item = item_nbytes(dtype)
    header = _HEADER.pack(_VERSION, item, 0, 0, nbytes)
    starts = _run_starts(nbytes, item)
    if starts is None:
        return header + read(0, _sample_nbytes(nbytes, item))
    return header + b"".join(read(start, _RUN_NBYTES) for start in starts)


def sketch_whole(raw: Buffer, dtype: str) -> bytes:
    """Return the sketch of a tensor whose bytes are all in memory."""
    items = np.frombuffer(memoryview(raw), np.uint8)
    item = item_nbytes(dtype)
    header = _HEADER.pack(_VERSION, item, 0, 0, items.size)
    starts = _run_starts(items.size, item)
    if starts is None:
        return header + items[: _sample_nbytes(items.size, item)].tobytes()
    return header + items[np.array(starts)[:, None] + np.arange(_RUN_NBYTES)].tobytes()


def parse(stored: bytes) -> Samples | None:
    """Return the content of a sketch, or None if `stored` is not one."""
    if len(stored) < _HEADER.size:
        return None
    version, item, zero, more_zero, tensor_nbytes = _HEADER.unpack_from(stored)
    if version != _VERSION or item not in (1, 2, 4, 8) or zero or more_zero:
        return None
    if len(stored) - _HEADER.size != _sample_nbytes(tensor_nbytes, item):
        return None
    return Samples(tensor_nbytes, item, np.frombuffer(stored, np.uint8, offset=_HEADER.size).reshape(-1, item))


def _sample_nbytes(tensor_nbytes: int, item: int) -> int:
    """Return how many bytes follow the header; the odd tail of a short tensor is left out."""
    return min(tensor_nbytes - tensor_nbytes % item, _SAMPLE_NBYTES)


@lru_cache(maxsize=1024)
def _run_starts(tensor_nbytes: int, item: int) -> list[int] | None:
    """Return byte offsets of the runs, or None if the tensor is its own sketch.

    One run in each of 63 equal parts.  The place within the part moves by the golden ratio: at equal distances all
    runs could fall on the same columns of a matrix.
    """
    items = tensor_nbytes // item
    run_items = _RUN_NBYTES // item
    if items * item <= _SAMPLE_NBYTES:
        return None
    starts = []
    for run in range(_RUNS):
        begin, end = items * run // _RUNS, items * (run + 1) // _RUNS
        room = max(end - begin - run_items, 0)
        start = begin + (room * ((run * 0x9E3779B1) & 0xFFFFFFFF) >> 32)
        starts.append(min(start, items - run_items) * item)
    return starts
