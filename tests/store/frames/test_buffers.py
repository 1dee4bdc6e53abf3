"""Buffers are used again once every lease of them has ended, and never before, whatever is counted or forgotten."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from zipfs.store.frames.buffers import KEPT_NBYTES, BufferPool, buffer_nbytes

SIZE = 1 << 20

Array = npt.NDArray[np.uint8]


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def marked(pool: BufferPool, mark: int, nbytes: int = SIZE) -> memoryview:
    """A buffer full of one byte."""
    view = pool.take(nbytes)
    view[:] = bytes([mark]) * nbytes
    return view


def take_many(pool: BufferPool, mark: int) -> None:
    """Have the pool give, and get back, all that it has of one size and more."""
    views = [marked(pool, mark) for _ in range(8)]
    assert len({address(view) for view in views}) == len(views)


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(KEPT_NBYTES)


def test_a_buffer_is_used_again_once_it_is_released(pool: BufferPool) -> None:
    view = pool.take(SIZE)
    first = address(view)
    view.release()
    assert pool.kept_nbytes == SIZE
    with pool.take(SIZE) as again:
        assert address(again) == first
        assert pool.kept_nbytes == 0
    assert pool.kept_nbytes == SIZE


def test_a_buffer_is_used_again_once_nobody_refers_to_it(pool: BufferPool) -> None:
    view = pool.take(SIZE)
    first = address(view)
    del view
    assert address(pool.take(SIZE)) == first


def test_a_lease_ends_once(pool: BufferPool) -> None:
    view = pool.take(SIZE)
    owner = view.obj
    view.release()
    view.release()
    assert pool.kept_nbytes == SIZE
    with pytest.raises(ValueError, match="released"):
        view[0]
    with pytest.raises(BufferError, match="lease"):
        memoryview(owner)
    del view, owner
    assert pool.kept_nbytes == SIZE


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_part_that_is_held_keeps_its_bytes_however_few_references_are_counted(
    pool: BufferPool, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """CPython 3.14 does not count those that local variables borrow."""
    monkeypatch.setattr(sys, "getrefcount", lambda _: count)
    view = marked(pool, 1)
    held = view.toreadonly()[100:200]
    del view
    take_many(pool, 2)
    assert bytes(held) == b"\1" * 100


def test_what_an_array_looks_at_keeps_its_bytes(pool: BufferPool) -> None:
    view = marked(pool, 1)
    array = np.frombuffer(view, "<u4")[5:9].reshape(2, 2)
    view.release()
    take_many(pool, 2)
    assert (array == 0x01010101).all()
    assert pool.kept_nbytes == 8 * SIZE
    del array
    assert pool.kept_nbytes == 9 * SIZE


def test_one_of_two_leases_may_end_first(pool: BufferPool) -> None:
    view = marked(pool, 1)
    with memoryview(view) as other:
        view.release()
        take_many(pool, 2)
        assert bytes(other) == b"\1" * SIZE
        assert pool.kept_nbytes == 8 * SIZE
    assert pool.kept_nbytes == 9 * SIZE


def test_what_is_forgotten_in_a_circle_is_not_used_again_before_it_is_collected(pool: BufferPool) -> None:
    class Holder:
        def __init__(self, view: memoryview) -> None:
            self.view = view
            self.itself = self
            self.seen: list[bytes] = []

        def __del__(self) -> None:
            take_many(pool, 2)
            seen.append(bytes(self.view[:3]))

    seen: list[bytes] = []
    gc.collect()
    Holder(marked(pool, 1))
    take_many(pool, 2)
    gc.collect()
    assert seen == [b"\1\1\1"]
    assert pool.kept_nbytes == 9 * SIZE


def test_leases_outlive_their_pool() -> None:
    pool = BufferPool(KEPT_NBYTES)
    view = marked(pool, 1)
    del pool
    assert bytes(view) == b"\1" * SIZE
    view.release()


def test_buffers_of_any_size(pool: BufferPool) -> None:
    for nbytes in (0, 1, 17, 4096, SIZE - 1, SIZE, SIZE + 1, 8 << 20, (8 << 20) + 1):
        view = pool.take(nbytes)
        assert len(view) == nbytes
        assert view.contiguous
        assert not view.readonly
        assert nbytes <= buffer_nbytes(nbytes) <= max(4 * nbytes, nbytes)
        view[:] = b"a" * nbytes
        assert bytes(view) == b"a" * nbytes


@pytest.mark.parametrize("nbytes", [-1, 1 << 62, 1 << 64])
def test_sizes_that_cannot_be(pool: BufferPool, nbytes: int) -> None:
    with pytest.raises((ValueError, OverflowError, MemoryError)):
        pool.take(nbytes)
    with pytest.raises((ValueError, OverflowError)):
        BufferPool(-1)


def test_what_waits_for_its_next_use_is_bounded_over_all_sizes(pool: BufferPool) -> None:
    addresses: set[int] = set()
    for size in (SIZE // 4, SIZE // 2, 2 * SIZE, 4 * SIZE, SIZE):
        views = [pool.take(size) for _ in range((80 << 20) // size)]
        addresses = {address(view) for view in views}
        views.clear()
        assert pool.kept_nbytes == KEPT_NBYTES
    again = [pool.take(SIZE) for _ in range(80)]
    assert 8 <= len(addresses & {address(view) for view in again[:48]}) <= 48
    assert pool.kept_nbytes <= KEPT_NBYTES


def test_a_pool_that_keeps_nothing() -> None:
    pool = BufferPool(0)
    for mark in range(3):
        assert bytes(marked(pool, mark)[:2]) == bytes([mark, mark])
    assert pool.kept_nbytes == 0


class Leases(RuleBasedStateMachine):
    """Buffers, parts of them and arrays of these, let go in any order; each has the bytes of its own buffer."""

    held = Bundle("held")

    @initialize(most_nbytes=st.sampled_from([0, SIZE, 3 * SIZE, KEPT_NBYTES]))
    def begin(self, most_nbytes: int) -> None:
        self.most_nbytes = most_nbytes
        self.pool = BufferPool(most_nbytes)
        self.marks = 0
        self.alive: dict[int, tuple[memoryview | Array, int]] = {}
        self.count = 0

    def _hold(self, view: memoryview | Array, mark: int) -> int:
        self.count += 1
        self.alive[self.count] = view, mark
        return self.count

    @rule(target=held, nbytes=st.sampled_from([1, 20_000, 65_536, SIZE - 1, SIZE, 4 * SIZE]))
    def take(self, nbytes: int) -> int:
        self.marks = self.marks % 255 + 1
        return self._hold(marked(self.pool, self.marks, nbytes), self.marks)

    @rule(target=held, one=held, share=st.floats(0, 1), how=st.sampled_from(["part", "view", "read-only", "array"]))
    def derive(self, one: int, share: float, how: str) -> int:
        view, mark = self.alive[one]
        flat = view if isinstance(view, memoryview) else view.data
        part = flat[int(share * (len(flat) - 1)) :]
        if how == "view":
            return self._hold(memoryview(flat), mark)
        if how == "array":
            return self._hold(np.frombuffer(part, np.uint8), mark)
        return self._hold(part.toreadonly() if how == "read-only" else part, mark)

    @rule(one=consumes(held))
    def drop(self, one: int) -> None:
        del self.alive[one]

    @rule(one=consumes(held))
    def release(self, one: int) -> None:
        view, _ = self.alive.pop(one)
        if isinstance(view, memoryview):
            view.release()

    @invariant()
    def everybody_has_its_own_bytes(self) -> None:
        for view, mark in self.alive.values():
            flat = np.frombuffer(view, np.uint8)
            assert flat[0] == flat[-1] == mark
            assert (flat[:: max(1, flat.size // 64)] == mark).all()

    @invariant()
    def what_waits_is_bounded(self) -> None:
        assert 0 <= self.pool.kept_nbytes <= self.most_nbytes


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_many_threads_never_share_a_buffer(pool: BufferPool) -> None:
    """Each writes a mark of its own to what it takes, hands parts on to others, and all look at what they hold."""
    begin = threading.Barrier(8)
    exchange: list[tuple[memoryview, int]] = []

    def work(number: int) -> int:
        chance = random.Random(number)
        held: list[tuple[memoryview, int]] = []
        begin.wait()
        for turn in range(400):
            mark = (number * 31 + turn) % 256
            view = marked(pool, mark, chance.choice([70_000, 65_536, 200_000]))
            held.append((view.toreadonly()[chance.randrange(60_000) :], mark))
            if chance.random() < 0.3:
                exchange.append((view[:100], mark))
            del view
            if chance.random() < 0.3 and exchange:
                with contextlib.suppress(IndexError):
                    held.append(exchange.pop())
            while len(held) > 6:
                part, mark = held.pop(chance.randrange(len(held)))
                assert part[0] == part[-1] == mark
                assert bytes(part[::1000]).count(mark) == len(part[::1000])
                if chance.random() < 0.5:
                    part.release()
        for part, mark in held:
            assert part[0] == part[-1] == mark
        return len(held)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
    exchange.clear()
    assert 0 < pool.kept_nbytes <= KEPT_NBYTES
