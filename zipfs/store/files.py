"""Reading and syncing files, by descriptor."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zipfs.errors import NoSpace


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """A disk that is full, or a quota, as NoSpace of the store at `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(path, os.strerror(error.errno)) from error
        raise


def read_at(fd: int, offset: int, nbytes: int) -> bytes:
    """`nbytes` bytes from `offset` on; fewer only where the file ends. Raises OSError."""
    data = os.pread(fd, nbytes, offset)
    while len(data) < nbytes:
        more = os.pread(fd, nbytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def sync_directory(path: Path) -> None:
    """On return the names in a directory are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
