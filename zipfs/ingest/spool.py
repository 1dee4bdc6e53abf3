"""Open spool files: one descriptor per inode, however many handles it has, and who is still writing.

A late write (write-back of a mapping, after the last close) finds the file by its inode and not by a name or a handle.
What is written is in the page cache of the store's disk when `write` returns: a kill of this process loses nothing.
A bit in the mode of a spool file says that it is new or was written to, and that no descriptor of it has been closed
since: a file with that bit which nobody has open was cut off.

Any thread may call.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zipfs.errors import NoSpace
from zipfs.host import bounded_time_ns
from zipfs.store.disk.files import open_or_create_file
from zipfs.store.disk.space import free_nbytes
from zipfs.store.objects.values import InodeId
from zipfs.store.store import Store

WRITING_MODE: Final = stat.S_ISVTX
"""Set in the mode of a spool file from when it is made or written to until a descriptor of it is closed."""
_CHECK_SPACE_EVERY_NBYTES = 8 << 20
"""At most so much is written between two looks at the space of the disk."""
_EXPECTED_S = 30.0
"""So long may a writer take to come back."""


@dataclass(slots=True)
class _Open:
    fd: int
    handles: int = 0
    writers: int = 0
    marked: bool = False
    """Whether the spool file says that it is being written."""


class Spool:
    """The spool of one store. `reserve_nbytes` of its disk are kept free, so that what is spooled can be compressed."""

    def __init__(self, store: Store, reserve_nbytes: int) -> None:
        self._store = store
        self._reserve = reserve_nbytes
        self._lock = threading.Lock()
        self._open: dict[InodeId, _Open] = {}
        self._expected_until_s: dict[InodeId, float] = {}
        # Often enough that what is written between two looks cannot use up the reserve.
        self._check_every = min(_CHECK_SPACE_EVERY_NBYTES, reserve_nbytes // 4)
        self._unchecked = self._check_every

    @property
    def directory(self) -> Path:
        return self._store.path / "spool"

    def acquire(self, inode_id: InodeId, *, writing: bool, fresh: bool = False) -> int:
        """Return a descriptor, valid until the matching `release`. `fresh`: the file is new or emptied."""
        with self._lock:
            entry = self._open.get(inode_id)
            if entry is None:
                path = self._store.spool_path(inode_id)
                entry = self._open[inode_id] = _Open(open_or_create_file(path))
                entry.marked = bool(os.fstat(entry.fd).st_mode & WRITING_MODE)
            entry.handles += 1
            entry.writers += writing
            if writing:
                self._expected_until_s.pop(inode_id, None)
            if fresh:
                self._mark(entry)
            return entry.fd

    def closed(self, inode_id: InodeId) -> None:
        """Take what was written so far for finished until it is written on: a descriptor of a writer was closed."""
        with self._lock:
            self._unmark(self._open[inode_id])

    def _mark(self, entry: _Open) -> None:
        if not entry.marked:
            os.fchmod(entry.fd, 0o600 | WRITING_MODE)
            entry.marked = True

    def _unmark(self, entry: _Open) -> None:
        if entry.marked:
            os.fchmod(entry.fd, 0o600)
            entry.marked = False

    def release(self, inode_id: InodeId, *, writing: bool, closing: bool = True) -> None:
        """`closing`: the end of a handle or of a write, after which nothing more is to come if it was the last."""
        with self._lock:
            entry = self._open[inode_id]
            entry.handles -= 1
            entry.writers -= writing
            if writing and closing and not entry.writers:
                self._unmark(entry)
            if not entry.handles:
                del self._open[inode_id]
                os.close(entry.fd)

    def expect(self, inode_id: InodeId) -> None:
        """Take an inode for one that is written to until it is, or until its writer has had time enough to come."""
        with self._lock:
            now_s = time.monotonic()
            for late in [one for one, until_s in self._expected_until_s.items() if until_s <= now_s]:
                del self._expected_until_s[late]
            self._expected_until_s[inode_id] = now_s + _EXPECTED_S

    def writing(self) -> Collection[InodeId]:
        """Return the inodes that some handle may still write to, and those for which one is expected."""
        with self._lock:
            now_s = time.monotonic()
            written = {inode_id for inode_id, entry in self._open.items() if entry.writers}
            return written | {one for one, until_s in self._expected_until_s.items() if until_s > now_s}

    def write(self, inode_id: InodeId, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data`. Raises NoSpace before the disk is full to the last byte."""
        self._check_space(len(data))
        fd = self.acquire(inode_id, writing=True, fresh=True)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(fd, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise self._no_space(error) from error
        finally:
            self.release(inode_id, writing=True)
        return len(data)

    def truncate(self, inode_id: InodeId, nbytes: int) -> None:
        fd = self.acquire(inode_id, writing=True, fresh=True)
        try:
            os.ftruncate(fd, nbytes)
        except OSError as error:
            raise self._no_space(error) from error
        finally:
            self.release(inode_id, writing=True)

    def set_mtime(self, inode_id: InodeId, mtime_ns: int) -> None:
        fd = self.acquire(inode_id, writing=True)
        try:
            os.utime(fd, ns=(time.time_ns(), bounded_time_ns(mtime_ns)))
        finally:
            self.release(inode_id, writing=True, closing=False)

    def sync(self, inode_id: InodeId) -> None:
        """Make content and name of a spool file safe from a power cut."""
        fd = self.acquire(inode_id, writing=False)
        try:
            os.fsync(fd)
        finally:
            self.release(inode_id, writing=False)
        directory = os.open(self._store.path / "spool", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _check_space(self, nbytes: int) -> None:
        with self._lock:
            self._unchecked += nbytes
            if self._unchecked < self._check_every:
                return
            free = free_nbytes(self._store.path)
            if free - nbytes < self._reserve:
                raise NoSpace(self._store.path, f"{free >> 20} MiB free, {self._reserve >> 20} MiB kept in reserve")
            self._unchecked = 0

    def _no_space(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(self._store.path, error.strerror)
        return error
