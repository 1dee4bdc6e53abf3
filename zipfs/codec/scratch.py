"""Owns memory that a thread keeps from frame to frame: fresh pages would cost a tenth of the time of encoding."""

from __future__ import annotations

import threading

import numpy as np

from zipfs.codec.contract import Bytes


class Scratch(threading.local):
    """An area of memory for each thread."""

    def __init__(self) -> None:
        self._area = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> Bytes:
        """Return the calling thread's area, uint8 (nbytes,); what it held is gone with the next call in this thread."""
        if self._area.nbytes < nbytes:
            self._area = np.empty(nbytes, np.uint8)
        return self._area[:nbytes]
