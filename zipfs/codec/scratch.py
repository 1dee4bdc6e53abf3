"""Owns memory that a thread keeps from frame to frame: fresh pages would cost a tenth of the time of encoding."""

from __future__ import annotations

import threading

import numpy as np

from zipfs.codec.contract import Bytes


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.area = np.empty(0, np.uint8)


_scratch = _Scratch()


def scratch(nbytes: int) -> Bytes:
    """The calling thread's memory, uint8 (nbytes,); what it held is gone with the next call in this thread."""
    if _scratch.area.nbytes < nbytes:
        _scratch.area = np.empty(nbytes, np.uint8)
    return _scratch.area[:nbytes]
