"""Buffers are used again when nobody looks at them any more, and never before."""

from __future__ import annotations

import numpy as np

from zipfs.store.buffers import BufferPool

SIZE = 4096


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_a_buffer_that_was_let_go_is_used_again() -> None:
    pool = BufferPool(SIZE)
    view = pool.take(SIZE)
    first = address(view)
    pool.keep(view)
    del view
    assert address(pool.take(SIZE)) == first


def test_a_buffer_of_which_a_part_is_still_held_is_left_alone() -> None:
    pool = BufferPool(SIZE)
    view = pool.take(SIZE)
    view[:] = b"a" * SIZE
    held = view.toreadonly()[100:200]
    pool.keep(view)
    del view
    for _ in range(20):
        other = pool.take(SIZE)
        other[:] = b"b" * SIZE
        pool.keep(other)
    assert bytes(held) == b"a" * 100


def test_shorter_and_longer_buffers() -> None:
    pool = BufferPool(SIZE)
    assert len(pool.take(17)) == 17
    longer = pool.take(SIZE + 1)
    assert len(longer) == SIZE + 1
    pool.keep(longer)
    assert len(pool.take(SIZE)) == SIZE
