"""Foretells whether a write to the page cache is done at once, or whoever writes is made to wait for the disk.

Linux makes writers wait once what is not on the disk yet comes near its limit: between that from which it is written
back and that beyond which nobody may go on. Below that, a write costs a copy. A single write cannot be asked not
to wait, for ext4 refuses RWF_NOWAIT.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

_COUNTERS: Final = Path("/proc/vmstat")
_COUNTERS_NBYTES: Final = 64 << 10
_NAMES: Final = (b"nr_dirty", b"nr_writeback", b"nr_dirty_threshold", b"nr_dirty_background_threshold")
_COUNTER: Final = re.compile(rb"^(%b) (\d+)$" % b"|".join(_NAMES), re.MULTILINE)
_AGAIN_S: Final = 0.1
"""So long a look is good: other programs write, too."""
_SLOW_S: Final = 0.02
"""A write that took longer was made to wait for a reason that the counters do not show, such as a cgroup's limit."""
_AFTER_SLOW_S: Final = 1.0
_SHARE: Final = 4
"""The part of what is left that we take for ours is one of so many."""


class PageCache:
    """Used by one thread."""

    def __init__(self, counters: Path = _COUNTERS) -> None:
        self._page_nbytes = os.sysconf("SC_PAGE_SIZE")
        self._counters = counters
        self._allowed = 0
        self._until_s = 0.0

    def takes(self, nbytes: int) -> bool:
        """Return whether so many bytes more are likely to be taken at once, and count them as written."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._allowed = self._look() // _SHARE
            self._until_s = now_s + _AGAIN_S
        if nbytes > self._allowed:
            return False
        self._allowed -= nbytes
        return True

    def took(self, seconds: float) -> None:
        """Note how long a write took that was to be done at once."""
        if seconds > _SLOW_S:
            self._allowed = 0
            self._until_s = time.monotonic() + _AFTER_SLOW_S

    def _look(self) -> int:
        """Return how many bytes may be written before anybody waits; 0 where the system does not say."""
        try:
            with open(self._counters, "rb", buffering=0) as file:
                counters = file.read(_COUNTERS_NBYTES)
        except OSError:
            return 0
        pages = {name: int(count) for name, count in _COUNTER.findall(counters)}
        if len(pages) < len(_NAMES):
            return 0
        limit = (pages[b"nr_dirty_threshold"] + pages[b"nr_dirty_background_threshold"]) // 2
        return max(0, limit - pages[b"nr_dirty"] - pages[b"nr_writeback"]) * self._page_nbytes
