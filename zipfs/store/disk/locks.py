"""Locks between processes, as `flock` on files in `locks/`: they vanish with the process that held them.

| lock | held by | shared with |
|---|---|---|
| `use` | everyone who has the store open (shared); `rebuild` (alone) | |
| `mount` | the mount that writes | nobody; a second writing mount is refused |
| `pack` | whoever writes or deletes packs: an ingest, a collection | the next one waits |

The catalog's own transactions need none of these: SQLite has its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zipfs.errors import StoreBusy
from zipfs.store.disk.files import open_file, open_or_create_file
from zipfs.store.disk.stopping import Stop

_POLL_S = 0.1


class FileLock:
    """One lock file. The object may be acquired again after it was released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def try_acquire(self, *, shared: bool = False, read_only: bool = False) -> bool:
        """Take the lock, or return False if somebody else has it.

        `read_only` is for a store on a file system that cannot be written.
        """
        try:
            fd = open_file(self.path) if read_only else open_or_create_file(self.path)
        except FileNotFoundError:
            if not read_only or not self.path.parent.is_dir():
                raise
            return True  # nobody has ever held it
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def held_elsewhere(self) -> bool:
        """Return whether another process, or another FileLock, holds the lock now."""
        if not self.path.exists():
            return False
        probe = FileLock(self.path)
        if probe.try_acquire():
            probe.release()
            return False
        return True

    @contextmanager
    def held(self, why: str, *, waiting: Callable[[], None] | None, stop: Stop | None = None) -> Iterator[None]:
        """Hold the lock for the time of the block.

        With `waiting`, that is called once if another process has the lock, and the wait goes on until it is free, or
        ends in Stopped; without, StoreBusy is raised at once. `why` says who may have it.
        """
        if not self.try_acquire():
            if waiting is None:
                raise StoreBusy(self.path.parent.parent, why)
            waiting()
            stop = stop or Stop()
            while not self.try_acquire():
                stop.wait(_POLL_S)
                stop.check()
        try:
            yield
        finally:
            self.release()
