"""The blocks of a fractal heap of HDF5, in which a group keeps its links once they are many.

The links lie in its direct blocks one behind the other; the index beside the heap, which finds one by its name, is not
read. Where links were removed the rest of their block is passed over. Source: "HDF5 File Format Specification Version
3.0", III.G. Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.hdf5_messages import ADDRESS_NBYTES, UNDEFINED, Link, address, parse_link

MAX_BLOCK_NBYTES: Final = 1 << 20
MAX_ROWS: Final = 64
MAX_WIDTH: Final = 64

_HEADER: Final = Struct("<4sBHHB4x12QHQQHHQH")
_IS_CHECKED: Final = 2

Take = Callable[[int, int], bytes]
"""`take(address, nbytes)` returns exactly those bytes of the file, or raises."""


@dataclass(frozen=True, slots=True)
class _Heap:
    """How the blocks of a heap are sized: `width` in a row, those of the first two rows `first_nbytes` each."""

    width: int
    first_nbytes: int
    direct_rows: int
    block_head_nbytes: int
    is_checked: bool


def links_of_heap(take: Take, at: int) -> Iterator[Link]:
    """Yield the links in the heap whose header is at `at`. Raises NotThisFormat, and what `take` raises."""
    fields = _HEADER.unpack(take(at, _HEADER.size))
    signature, version, _, filter_nbytes, flags = fields[:5]
    width, first_nbytes, max_direct_nbytes, heap_bits, _, root, rows = fields[17:]
    if signature != b"FRHP" or version or filter_nbytes:
        raise NotThisFormat("no heap of links")
    if not 0 < first_nbytes <= max_direct_nbytes <= MAX_BLOCK_NBYTES or heap_bits > 64 or rows > MAX_ROWS:
        raise NotThisFormat("a heap of impossible blocks")
    if not 0 < width <= MAX_WIDTH:
        raise NotThisFormat("a heap of impossible rows")
    direct_rows = (max_direct_nbytes // first_nbytes).bit_length() + 1
    heap = _Heap(width, first_nbytes, direct_rows, 5 + ADDRESS_NBYTES + (heap_bits + 7) // 8, bool(flags & _IS_CHECKED))
    if root == UNDEFINED:
        return
    if not rows:
        yield from _links_of_block(take, heap, root, first_nbytes)
        return
    pending = [(root, rows)]
    seen: set[int] = set()
    while pending:
        at, rows = pending.pop()
        if at in seen:
            raise NotThisFormat("a heap with a circle in it")
        seen.add(at)
        if take(at, 4) != b"FHIB":
            raise NotThisFormat("no block of a heap")
        children = take(at + heap.block_head_nbytes, rows * heap.width * ADDRESS_NBYTES)
        for child in range(rows * heap.width):
            row, child_at = child // heap.width, address(children, child * ADDRESS_NBYTES)
            if child_at == UNDEFINED:
                continue
            nbytes = heap.first_nbytes << max(0, row - 1)
            if row < heap.direct_rows:
                yield from _links_of_block(take, heap, child_at, nbytes)
            else:
                inner_rows = (nbytes // (heap.first_nbytes * heap.width)).bit_length()
                pending.append((child_at, min(inner_rows, MAX_ROWS)))


def _links_of_block(take: Take, heap: _Heap, at: int, nbytes: int) -> Iterator[Link]:
    block = take(at, nbytes)
    if not block.startswith(b"FHDB"):
        raise NotThisFormat("no block of a heap")
    position = heap.block_head_nbytes + 4 * heap.is_checked
    while (link := parse_link(block, position)) is not None:
        yield link
        position = link.end
