"""Free space on the disk of a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_RESERVE_NBYTES_AT_MOST: Final = 1 << 30


def free_nbytes(path: Path) -> int:
    """Return what an ordinary user may still write to the disk that holds `path`."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def default_reserve_nbytes(path: Path) -> int:
    """Return how much of a disk to keep free: a tenth of a small one, at most a GiB.

    That is room for the pack that the spool is about to become.
    """
    found = os.statvfs(path)
    return min(_RESERVE_NBYTES_AT_MOST, found.f_blocks * found.f_frsize // 10)
