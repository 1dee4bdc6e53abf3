"""Asking long work to end: by a signal, by another thread, or because something more important has come.

Whatever takes long is given a `Stop` and calls `check` about once a MiB. What it has begun is then taken back as after
any other error.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final

from zipfs.errors import Stopped

_LOOK_EVERY_S: Final = 1.0
"""Of several that wait for one request, one may be overtaken by another and looks again after this."""


class Stop:
    """A request to end, which any thread and any signal handler may make.

    `threading.Event` is no good for that: `set` takes a lock. A handler runs in the main thread, between two steps of
    whatever that was doing; if that was `wait`, with the lock in hand, both wait for each other for ever.
    """

    def __init__(self) -> None:
        self._requested = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        self._requested = True
        self._tokens.put(None)

    def clear(self) -> None:
        """Forget the request; for the one thread that waits."""
        self._requested = False
        try:
            while True:
                self._tokens.get_nowait()
        except Empty:
            return

    def is_set(self) -> bool:
        return self._requested

    def wait(self, timeout_s: float) -> bool:
        """Wait for the request for so long; returns whether it has been made."""
        until_s = time.monotonic() + timeout_s
        while not self._requested and (left_s := until_s - time.monotonic()) > 0:
            try:
                self._tokens.get(timeout=min(left_s, _LOOK_EVERY_S))
            except Empty:
                continue
            self._tokens.put(None)  # for whoever else waits
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
