"""Requests to end long work, made by a signal, by another thread, or because something more important has come.

Whatever takes long is given a `Stop` and calls `check` about once a MiB. What it has begun is taken back then, as after
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

    `threading.Event` would not do, because its `set` takes a lock. A signal handler runs in the main thread, between
    two steps of whatever that was doing: if it was in `wait`, and held the lock, the two would wait for each other.
    """

    def __init__(self) -> None:
        self._requested = False
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Becomes readable when the request is made."""

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
        """Wait for the request, at most `timeout_s`. Return whether it has been made."""
        if not self._requested:
            poll = select.poll()
            poll.register(self._eventfd, select.POLLIN)
            poll.poll(max(0.0, timeout_s) * 1000)
        return self._requested

    def check(self) -> None:
        """Raise Stopped if the request has been made."""
        if self._requested:
            raise Stopped


@contextmanager
def stopping_on_signals(
    *stops: Stop, numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Make these requests on signals, for the time of the block. Called in the main thread, before work is begun."""

    def request(*_: object) -> None:
        for stop in stops:
            stop.set()

    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
