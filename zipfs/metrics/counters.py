"""Counts what happens while files are read. One `Counters` for each mount; any thread may add, at any time.

Nothing is lost: an `add` that returned before `snapshot` was called is in the snapshot, once. Adding takes no lock. It
appends to a deque, which CPython does in one step, and whoever finds the deque long folds it into the sums, unless
somebody is folding already. So no thread ever waits to add, and adding is safe where a collection of garbage may run.
Counts of different timers and tallies in one snapshot may be some microseconds apart.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from zipfs.metrics.snapshot import BUCKETS, STAGES, TALLIES, Process, Snapshot, Tallied, Timed, bucket_of

_FOLD_AT: Final = 64
"""Longest a deque gets before it is folded: what one `add` in so many pays."""
_GAUGE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_STATUS_LINE: Final = re.compile(rb"^(VmRSS|VmHWM|Threads):\s*(\d+)", re.MULTILINE)


class Timer:
    """Counts things that take time: how many, their bytes, how long each took, and which failed."""

    __slots__ = ("_buckets", "_count", "_failures", "_fresh", "_fresh_failures", "_lock", "_nbytes", "_seconds")

    def __init__(self) -> None:
        self._fresh: deque[tuple[float, int]] = deque()
        self._fresh_failures: deque[str] = deque()
        self._lock = threading.Lock()
        self._count = 0
        self._nbytes = 0
        self._seconds = 0.0
        self._buckets = [0] * BUCKETS
        self._failures: Counter[str] = Counter()

    def add(self, seconds: float, nbytes: int = 0) -> None:
        """Count one thing that is done. Never waits."""
        fresh = self._fresh
        fresh.append((seconds, nbytes))
        if len(fresh) >= _FOLD_AT and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def fail(self, seconds: float, why: str) -> None:
        """Count one thing that has failed, on its own for each `why`, which is one of a few words. Never waits."""
        self.add(seconds)
        self._fresh_failures.append(why)

    def _fold(self) -> None:
        """Under the lock."""
        # Failures first: each was added before it failed, so there are never more of them than of all.
        for _ in range(len(self._fresh_failures)):
            self._failures[self._fresh_failures.popleft()] += 1
        fresh, buckets = self._fresh, self._buckets
        for _ in range(len(fresh)):
            seconds, nbytes = fresh.popleft()
            self._count += 1
            self._nbytes += nbytes
            self._seconds += seconds
            buckets[bucket_of(seconds)] += 1

    def read(self) -> Timed:
        with self._lock:
            self._fold()
            buckets = tuple((index, count) for index, count in enumerate(self._buckets) if count)
            return Timed(self._count, self._nbytes, self._seconds, dict(self._failures), buckets)


class Tally:
    """Counts things that happen, and the bytes that they are about."""

    __slots__ = ("_count", "_fresh", "_lock", "_nbytes")

    def __init__(self) -> None:
        self._fresh: deque[int] = deque()
        self._lock = threading.Lock()
        self._count = 0
        self._nbytes = 0

    def add(self, nbytes: int = 0) -> None:
        """Count one more. Never waits."""
        fresh = self._fresh
        fresh.append(nbytes)
        if len(fresh) >= _FOLD_AT and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        """Under the lock."""
        count = len(self._fresh)
        for _ in range(count):
            self._nbytes += self._fresh.popleft()
        self._count += count

    def read(self) -> Tallied:
        with self._lock:
            self._fold()
            return Tallied(self._count, self._nbytes)


class Counters:
    """Everything that is counted for one mount, or for one reader."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._began_s = time.monotonic()
        self._operations: dict[str, Timer] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self.fetch = Timer()
        """Reads from packs, and the bytes read."""
        self.decode = Timer()
        """Frames decoded, and the raw bytes that came out."""
        self.hits = Tally()
        """Requests, or parts of them, that were answered from memory."""
        self.misses = Tally()
        """Those that had to be fetched and decoded."""
        self.waits = Tally()
        """Those that waited for a decoding that was under way already."""
        self.base_hits = Tally()
        """Ranges of bases that were found in memory."""
        self.base_misses = Tally()
        """Ranges of bases that had to be fetched and decoded."""
        self.prefetched = Tally()
        """Decoded before anybody asked."""
        self.prefetch_used = Tally()
        """Of these, asked for later."""
        self.prefetch_wasted = Tally()
        """Of these, dropped without having been asked for."""

    def operation(self, name: str) -> Timer:
        """Return the timer of one kind of request, made when it is first asked for."""
        timer = self._operations.get(name)
        return self._operations.setdefault(name, Timer()) if timer is None else timer

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Have `read` called, by any thread, at each snapshot; it has to be quick and must not raise.

        The name of a number of bytes ends in `_bytes`.
        """
        if _GAUGE_NAME.fullmatch(name) is None or name in self._gauges:
            raise ValueError(f"{name!r} is in use or is no name for a gauge")
        self._gauges[name] = read

    def remove_gauge(self, name: str) -> None:
        """Have a gauge no more: what it reads is gone."""
        del self._gauges[name]

    def snapshot(self) -> Snapshot:
        """Return everything as it is now. Takes well under a millisecond; waits for nothing but a fold under way."""
        return Snapshot(
            started_at=self._started_at,
            taken_at=time.time(),
            elapsed_s=time.monotonic() - self._began_s,
            operations={name: timer.read() for name, timer in list(self._operations.items())},
            stages={name: getattr(self, name).read() for name in STAGES},
            tallies={name: getattr(self, name).read() for name in TALLIES},
            gauges={name: float(read()) for name, read in list(self._gauges.items())},
            process=_process(),
        )


def _process() -> Process:
    with open("/proc/self/status", "rb") as file:
        found = {name: int(value) for name, value in _STATUS_LINE.findall(file.read())}
    resident_kib, peak_kib = found.get(b"VmRSS", 0), found.get(b"VmHWM", 0)
    return Process(os.getpid(), time.process_time(), resident_kib << 10, peak_kib << 10, found.get(b"Threads", 0))
