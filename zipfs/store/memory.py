"""Memory of this process that is there before it is written. Any thread may call."""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE of Linux 5.14, which `mmap` does not name yet."""

_madvise = getattr(ctypes.CDLL(None), "madvise", None)


def make_resident(view: memoryview) -> None:
    """Have the system give a writable buffer all of its pages now, not one by one as they are written.

    Takes some microseconds a MiB where they are there already. The interpreter is free meanwhile. A system that is
    older, or has no memory left, gives them when they are written, as it does without this.
    """
    if _madvise is None or not view.nbytes:
        return
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    start = address & -mmap.PAGESIZE
    _madvise(ctypes.c_void_p(start), ctypes.c_size_t(address + view.nbytes - start), _POPULATE_WRITE)
