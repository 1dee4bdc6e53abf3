"""Fetching the stored bytes of many frames in few reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np

from zipfs.codec.scratch import Scratch
from zipfs.errors import PackDamaged
from zipfs.store.packs.file import PackFile, ReadRange

_GAP_NBYTES: Final = 64 << 10
"""Gaps between two ranges, up to this length, are read as well: a second read would take longer."""

_READ_NBYTES: Final = 8 << 20
"""The longest read. Without a limit one bad range could ask for any amount of memory."""

_FEW_NBYTES: Final = 1 << 20
"""Up to this much the reader waits for the disk mostly; beyond it others wait for a core, which it keeps busy."""

_SCRATCH_NBYTES: Final = 16 << 20
"""The memory that a thread keeps for what it fetches, at most. A window of a file and as much of its base take half of
it. Memory that was just read is quickest to write again.
"""

_scratch = Scratch()


class Stored(NamedTuple):
    """`nbytes` bytes of a pack from `offset` on."""

    pack: PackFile
    offset: int
    nbytes: int


class Read(NamedTuple):
    """One read, and the positions of the ranges that it covers."""

    pack: PackFile
    offset: int
    nbytes: int
    members: list[int]


def plan_reads(ranges: Sequence[Stored]) -> list[Read]:
    """Plan reads that cover all ranges, each in one read. Raises PackDamaged for a range that no frame fills."""
    reads: list[Read] = []
    for position in sorted(range(len(ranges)), key=lambda at: (ranges[at].pack.name, ranges[at].offset)):
        pack, offset, nbytes = ranges[position]
        if nbytes > _READ_NBYTES:
            raise PackDamaged(pack.where, offset, f"a frame of {nbytes} bytes is said to be there")
        if reads:
            last = reads[-1]
            end = max(last.offset + last.nbytes, offset + nbytes)
            if (
                last.pack is pack
                and offset <= last.offset + last.nbytes + _GAP_NBYTES
                and end - last.offset <= _READ_NBYTES
            ):
                last.members.append(position)
                reads[-1] = last._replace(nbytes=end - last.offset)
                continue
        reads.append(Read(pack, offset, nbytes, [position]))
    return reads


def fetch(ranges: Sequence[Stored], outs: Sequence[memoryview] = ()) -> list[memoryview]:
    """Return the bytes of each range, valid until the calling thread fetches again. Raises PackDamaged.

    Any thread may call. Where few bytes are fetched, the memory of `outs`, which are written next, is made ready while
    the disk works.
    """
    content: list[memoryview] = [memoryview(b"")] * len(ranges)
    reads = plan_reads(ranges)
    nbytes = sum(read.nbytes for read in reads)
    area = (_scratch.take(nbytes) if nbytes <= _SCRATCH_NBYTES else np.empty(nbytes, np.uint8)).data
    ends = list(accumulate(read.nbytes for read in reads))
    buffers = [area[end - read.nbytes : end] for read, end in zip(reads, ends, strict=True)]
    if reads:
        into = [ReadRange(read.pack, read.offset, buffer) for read, buffer in zip(reads, buffers, strict=True)]
        reads[0].pack.read_ranges(into, (area, *outs) if nbytes <= _FEW_NBYTES else ())
    for read, buffer in zip(reads, buffers, strict=True):
        for position in read.members:
            start = ranges[position].offset - read.offset
            content[position] = buffer[start : start + ranges[position].nbytes]
    return content
