"""Owns what a process that compresses does with memory that it has freed: it keeps it, and uses it again.

Frames come and go by the thousand. Fresh memory for each costs 256 page faults a MiB, which take as long as to code it.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_NBYTES: Final = 64 << 20
"""Of each heap; what a thread of it uses at once is much less."""
_MAPPED_FROM_NBYTES: Final = 32 << 20
"""The most that glibc takes from a heap."""


def keep_freed_memory() -> None:
    """Have glibc keep the memory of frames in its heaps. To be called before there are threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_NBYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_NBYTES)
