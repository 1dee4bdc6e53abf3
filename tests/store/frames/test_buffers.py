"""Buffers are used again when nobody looks at them any more, and never before."""

from __future__ import annotations

import numpy as np

from zipfs.store.frames.buffers import BufferPool, buffer_nbytes

SIZE = 1 << 20


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_a_buffer_that_was_let_go_is_used_again() -> None:
    pool = BufferPool()
    view = pool.take(SIZE)
    first = address(view)
    pool.keep(view)
    del view
    assert address(pool.take(SIZE)) == first


def test_a_buffer_of_which_a_part_is_still_held_is_left_alone() -> None:
    pool = BufferPool()
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


def test_buffers_of_any_size() -> None:
    pool = BufferPool()
    for nbytes in (0, 1, 17, 4096, SIZE - 1, SIZE + 1, (8 << 20) + 1):
        view = pool.take(nbytes)
        assert len(view) == nbytes
        assert nbytes <= buffer_nbytes(nbytes) <= max(4 * nbytes, nbytes)
        view[:] = b"a" * nbytes
        pool.keep(view)


def test_what_waits_for_its_next_use_is_bounded_over_all_sizes() -> None:
    pool = BufferPool()
    addresses: set[int] = set()
    for size in (SIZE // 4, SIZE // 2, 2 * SIZE, 4 * SIZE, SIZE):
        views = [pool.take(size) for _ in range((80 << 20) // size)]
        addresses = {address(view) for view in views}
        for view in views:
            pool.keep(view)
        views.clear()
        del view
    again = [pool.take(SIZE) for _ in range(80)]
    used_again = addresses & {address(view) for view in again[:48]}
    assert 8 <= len(used_again) <= 48
    assert pool._kept_nbytes <= 48 << 20
    assert pool._kept_nbytes == sum(size * len(kept) for size, kept in pool._kept.items())
