"""Reserved space on the store's disk, so that removals succeed on a full one.

A removal takes space itself: for its record in the manifest log, and in the catalog. The store holds a little back in a
file, which is emptied when a removal finds the disk full and filled again later.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from zipfs.errors import NoSpace, ZipfsError
from zipfs.store.disk.files import open_file, open_or_create_file

log = logging.getLogger(__name__)

T = TypeVar("T")

RESERVE_NBYTES = 512 << 10
"""Some removals, of files with thousands of extents too."""


class Reserve:
    """The file that holds the reserved space. Any thread may call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spent = False
        """Whether the space was given up and could not be taken again since."""

    def fill(self) -> None:
        """Take the space, if it is not taken and there is enough of it. Without it only removals may fail."""
        try:
            fd = open_or_create_file(self._path)
            try:
                found = os.fstatvfs(fd)
                if _nbytes(fd) < RESERVE_NBYTES <= found.f_bavail * found.f_frsize:
                    os.posix_fallocate(fd, 0, RESERVE_NBYTES)
                self.spent = _nbytes(fd) < RESERVE_NBYTES
            finally:
                os.close(fd)
        except (OSError, ZipfsError) as error:
            log.warning("no space is reserved for removals: %s", error)

    def spend(self) -> bool:
        """Give the space to whoever writes next. Return whether there was any."""
        try:
            fd = open_file(self._path, os.O_WRONLY)
        except FileNotFoundError:
            return False
        try:
            had = _nbytes(fd) > 0
            os.ftruncate(fd, 0)
            self.spent = True
        finally:
            os.close(fd)
        return had

    def removing(self, work: Callable[[], T]) -> T:
        """Run `work`, which removes something, and return its result; on a full disk run it again with this space.

        Raises NoSpace.
        """
        try:
            return work()
        except NoSpace:
            if not self.spend():
                raise
        return work()


def _nbytes(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512
