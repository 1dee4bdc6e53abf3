"""Room on the store's disk for removals.

A removal is a change as any other: its record and SQLite's take some room. On a disk that somebody else has filled to
the last byte nothing could be removed to make some, if the store did not hold a little back: a file that is given up
then, and made anew when there is room again.
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
    """The file `reserve` of a store. Any thread may call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spent = False
        """Whether it was given up and not taken again since."""

    def fill(self) -> None:
        """Take the room, if it is not taken and there is enough. Without it removals may fail, and nothing else."""
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
            log.warning("no room is held back for removals: %s", error)

    def spend(self) -> bool:
        """Give the room to whoever writes next; whether there was any."""
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
        """What `work` returns, which removes something; where the disk is full it is run again with this room.

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
