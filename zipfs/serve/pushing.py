"""Gives what was decoded ahead to those who are about to read it, before they ask.

Giving may wait for answers to requests that are under way. So one thread does it on which no answer depends, and only
with slabs for whose parts nobody waits any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from zipfs.serve.counters import Counters
from zipfs.serve.slabs import OpenFile, Slab
from zipfs.store.rows import InodeId

log = logging.getLogger(__name__)

_STOP_S: Final = 5.0

Push = Callable[[InodeId, int, memoryview], None]
"""Gives a part of a file, from an offset on, to those who will ask for it. May wait for requests that are under way to
be answered, and for nothing else. Raises OSError."""


class Pusher:
    """Pushes slabs, if there is a way. `lock` guards the slabs; it is not held while one is pushed."""

    def __init__(self, push: Push | None, lock: threading.Lock, counters: Counters) -> None:
        self._push = push
        self._lock = lock
        self._counters = counters
        self._busy = threading.Lock()
        self.thread = ThreadPoolExecutor(1, "push")

    def submit(self, slab: Slab) -> None:
        """Push what nobody has asked for of a slab that was decoded ahead."""
        if self._push is not None:
            with suppress(RuntimeError):  # stopped just now
                self.thread.submit(self._push_rest, slab)

    def _push_rest(self, slab: Slab) -> None:
        with self._busy:
            with self._lock:
                begin, end = slab.pages_to_push()
                push, content = self._push, slab.content
                if push is None or content is None or begin >= end or not slab.file.users:
                    return
            began_s = time.perf_counter()
            try:
                push(slab.file.inode_id, begin, content[begin - slab.offset : end - slab.offset])
            except OSError as error:
                log.warning("what is decoded ahead is no longer given to the kernel unasked: %s", error)
                self._push = None
                return
            self._counters.push.add(time.perf_counter() - began_s, end - begin)
            with self._lock:
                slab.pushed_nbytes = end - begin
                slab.read_nbytes += end - begin

    def stop(self) -> None:
        """On return nothing is pushed any more, unless that waits for answers that will not come."""
        self._push = None
        self.thread.shutdown(wait=False, cancel_futures=True)
        if self._busy.acquire(timeout=_STOP_S):
            self._busy.release()


def pushed_nbytes(file: OpenFile, begin: int, end: int) -> int:
    """How much of a range was pushed, as far as it is still in memory."""
    numbers = range(file.cells.at(begin), file.cells.at(end - 1) + 1)
    slabs = {slab for number in numbers if (slab := file.slabs.get(number)) is not None}
    return min(sum(slab.pushed_nbytes for slab in slabs), end - begin)
