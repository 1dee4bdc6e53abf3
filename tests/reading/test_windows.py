"""A countdown calls once, by whichever thread takes the last step."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from zipfs.reading.windows import Countdown


@pytest.fixture
def _often_switching() -> Iterator[None]:
    """Threads that are interrupted after nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_it_calls_at_the_last_step_and_not_before() -> None:
    called: list[int] = []
    countdown = Countdown(3, lambda: called.append(1))
    countdown.step()
    countdown.step()
    assert called == []
    countdown.step()
    assert called == [1]


@pytest.mark.usefixtures("_often_switching")
def test_any_number_of_threads_may_step_at_once() -> None:
    threads, steps = 8, 50
    for _ in range(50):
        called: list[int] = []
        countdown = Countdown(threads * steps, lambda called=called: called.append(threading.get_ident()))  # type: ignore[misc]
        begin = threading.Barrier(threads)

        def run(countdown: Countdown = countdown, begin: threading.Barrier = begin) -> None:
            begin.wait()
            for _ in range(steps):
                countdown.step()

        running = [threading.Thread(target=run) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert len(called) == 1
