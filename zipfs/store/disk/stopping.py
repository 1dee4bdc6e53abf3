"""Asking long work to end: by a signal, by another thread, or because something more important has come.

Whatever takes long is given a `Stop` and calls `check` about once a MiB. What it has begun is then taken back as after
any other error.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from zipfs.errors import Stopped


class Stop:
    """A request to end, which any thread and any signal handler may make.

    `threading.Event` is no good for that: `set` takes a lock. A handler runs in the main thread, between two steps of
    whatever that was doing; if that was `wait`, with the lock in hand, both wait for each other for ever.
    """

    def __init__(self) -> None:
        self._requested = False
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Can be read from once the request has been made."""

    def __del__(self) -> None:
        os.close(self._eventfd)

    def set(self) -> None:
        self._requested = True
        os.eventfd_write(self._eventfd, 1)

    def clear(self) -> None:
        """Forget the request."""
        self._requested = False
        with suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)

    def is_set(self) -> bool:
        return self._requested

    def wait(self, timeout_s: float) -> bool:
        """Wait for the request for so long; returns whether it has been made."""
        if not self._requested:
            poll = select.poll()
            poll.register(self._eventfd, select.POLLIN)
            poll.poll(max(0.0, timeout_s) * 1000)
        return self._requested

    def check(self) -> None:
        """Raises Stopped once the request has been made."""
        if self._requested:
            raise Stopped


@contextmanager
def stopping_on_signals(
    *stops: Stop, numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Have signals make these requests for the time of the block. For the main thread, before anything is begun."""

    def request(*_: object) -> None:
        for stop in stops:
            stop.set()

    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
