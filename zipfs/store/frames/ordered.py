"""Works on frames ahead, on the threads of an executor, a bounded number at a time, and hands them out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 6
"""Frames in work at once; with two cores more only costs memory."""
_INLINE_NBYTES = 64 << 10
"""Below this a hop to another thread costs more than the coding."""


@contextmanager
def in_order(executor: Executor, work: Callable[[int], T], count: int, nbytes: int) -> Iterator[Iterator[T]]:
    """Yield `work(0) ... work(count - 1)` in order, for a blob of `nbytes` bytes, on other threads where that pays.

    After the block none of them is in work any longer, so that what they read from may be closed.
    """
    if nbytes <= _INLINE_NBYTES or count == 1:
        yield map(work, range(count))
        return
    underway: deque[Future[T]] = deque()
    try:
        yield _results(executor, work, count, underway)
    finally:
        for future in underway:
            future.cancel()
        wait(underway)


def _results(executor: Executor, work: Callable[[int], T], count: int, underway: deque[Future[T]]) -> Iterator[T]:
    for index in range(count):
        underway.append(executor.submit(work, index))
        if len(underway) >= _AHEAD:
            yield underway.popleft().result()
    while underway:
        yield underway.popleft().result()
