"""Owns the comparison of raw bytes with decoded ones. Pure; any thread may call."""

from __future__ import annotations

import numpy as np


def same_bytes(one: memoryview | bytes, other: memoryview | bytes) -> bool:
    """Return whether two buffers hold the same, without holding the GIL, as memoryview's own comparison would."""
    return bool(np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)))
