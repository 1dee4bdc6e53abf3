"""Memory for decoded bytes, used again instead of returned to the system.

A fresh MiB costs 256 page faults, which take longer than decoding it. A buffer is free again when nobody but this pool
refers to it: views of it that a reader still holds count as references, so nothing has to be handed back. Any thread
may call.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

_SIZES: Final = tuple(1 << bits for bits in range(16, 24))
"""Buffers come in these sizes, in bytes; what is asked for gets the next larger one."""

_KEPT_NBYTES: Final = 48 << 20
"""At most so many bytes wait for their next use, those still held included."""

_LOOKED_AT: Final = 8
_UNUSED_REFERENCES: Final = 2
"""A local variable and the argument of getrefcount."""

_Array = npt.NDArray[np.uint8]


class BufferPool:
    """Buffers of a few sizes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, deque[_Array]] = {size: deque() for size in _SIZES}
        self._kept_nbytes = 0

    def take(self, nbytes: int) -> memoryview:
        """A writable buffer of `nbytes`, not cleared; hand it to `keep` once it is no longer held for long."""
        size = buffer_nbytes(nbytes)
        kept = self._kept.get(size)
        if kept is None:
            return np.empty(nbytes, np.uint8).data
        with self._lock:
            for _ in range(min(len(kept), _LOOKED_AT)):
                array = kept.popleft()
                if sys.getrefcount(array) <= _UNUSED_REFERENCES:
                    self._kept_nbytes -= size
                    return array.data[:nbytes]
                kept.append(array)
        return np.empty(size, np.uint8).data[:nbytes]

    def keep(self, view: memoryview) -> None:
        """Use the buffer of a view from `take` again as soon as nobody refers to it any more."""
        array = view.obj
        if isinstance(array, np.ndarray) and array.nbytes in self._kept:
            with self._lock:
                self._kept[array.nbytes].append(array)
                self._kept_nbytes += array.nbytes
                while self._kept_nbytes > _KEPT_NBYTES:
                    size = max(self._kept, key=lambda one: one * len(self._kept[one]))
                    self._kept[size].popleft()
                    self._kept_nbytes -= size


def buffer_nbytes(nbytes: int) -> int:
    """What a buffer from `BufferPool.take(nbytes)` takes of the memory, in bytes."""
    if nbytes < _SIZES[0] // 4:
        return nbytes
    return next((size for size in _SIZES if size >= nbytes), nbytes)
