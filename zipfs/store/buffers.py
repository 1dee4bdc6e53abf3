"""Memory for decoded frames, used again instead of returned to the system.

A fresh MiB costs 256 page faults, which take longer than decoding it. A buffer is free again when nobody but this pool
refers to it: views of it that a reader still holds count as references, so nothing has to be handed back. Any thread
may call.
"""

from __future__ import annotations

import sys
import threading
from collections import deque

import numpy as np
import numpy.typing as npt

_KEPT = 48
_LOOKED_AT = 8
_UNUSED_REFERENCES = 2
"""A local variable and the argument of getrefcount."""


class BufferPool:
    """Buffers of one size."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._lock = threading.Lock()
        self._kept: deque[npt.NDArray[np.uint8]] = deque(maxlen=_KEPT)

    def take(self, nbytes: int) -> memoryview:
        """A writable buffer of `nbytes`, not cleared; hand it to `keep` once it is no longer held for long."""
        if nbytes > self._nbytes:
            return np.empty(nbytes, np.uint8).data
        with self._lock:
            for _ in range(min(len(self._kept), _LOOKED_AT)):
                array = self._kept.popleft()
                if sys.getrefcount(array) <= _UNUSED_REFERENCES:
                    return array.data[:nbytes]
                self._kept.append(array)
        return np.empty(self._nbytes, np.uint8).data[:nbytes]

    def keep(self, view: memoryview) -> None:
        """Use the buffer of a view from `take` again as soon as nobody refers to it any more."""
        array = view.obj
        if isinstance(array, np.ndarray) and array.nbytes == self._nbytes:
            with self._lock:
                self._kept.append(array)
