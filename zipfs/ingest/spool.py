"""Open spool files: one descriptor for each, however many handles its inode has, and who is still writing.

A late write (write-back of a mapping, after the last close) finds the file by its inode and not by a name or a handle.
What is written over an older version that is stored goes into blocks of the spool file; the rest of it stays a hole
(`store/frames/overlay.py`).
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
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zipfs.errors import CatalogDamaged, Damaged, NoSpace
from zipfs.host import bounded_time_ns
from zipfs.store.disk import faults
from zipfs.store.disk.files import create_file, open_file, open_or_create_file, sync_directory
from zipfs.store.disk.page_cache import PageCache
from zipfs.store.disk.space import free_nbytes
from zipfs.store.frames.overlay import BLOCK_NBYTES, Bytes, Older, check_holes, claim_holes, fill_edges, keeps_holes
from zipfs.store.namespace.writing import clip
from zipfs.store.objects.values import Inode, InodeId, State
from zipfs.store.store import Store

WRITING_MODE: Final = stat.S_ISVTX
"""Set in the mode of a spool file from when it is made or written to until a descriptor of it is closed."""
_CHECK_SPACE_EVERY_NBYTES = 8 << 20
"""At most so much is written between two looks at the space of the disk."""
_COPY_NBYTES: Final = 4 << 20
_EXPECTED_S = 30.0
"""So long may a writer take to come back."""


@dataclass(slots=True)
class _Open:
    fd: int
    older: Older | None
    handles: int = 0
    writers: int = 0
    recorded_nbytes: int = 0
    """As far as the rows have an older version."""
    marked: bool = False
    """Whether the spool file says that it is being written."""
    filling: threading.Lock = field(default_factory=threading.Lock)
    """Held while blocks are filled with what shows through and with what is written: no two may fill the same one."""

    def older_from(self, offset: int) -> Older | None:
        """Return the older version if it may show through from the block on in which a write begins."""
        is_beyond = self.older is None or self.older.nbytes <= offset - offset % BLOCK_NBYTES
        return None if is_beyond else self.older


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A use of an open spool file: its descriptor, and what shows through its holes. Valid until it is released."""

    fd: int
    older: Older | None


class Spool:
    """The spool of one store. `reserve_nbytes` of its disk are kept free, so that what is spooled can be compressed."""

    def __init__(self, store: Store, reserve_nbytes: int) -> None:
        self._store = store
        self._reserve = reserve_nbytes
        self.keeps_holes = keeps_holes(self.directory)
        """Whether an older version can show through the holes of a spool file."""
        self._lock = threading.Lock()
        self._open: dict[InodeId, _Open] = {}
        self._expected_until_s: dict[InodeId, float] = {}
        # Often enough that what is written between two looks cannot use up the reserve.
        self._check_every = min(_CHECK_SPACE_EVERY_NBYTES, reserve_nbytes // 4)
        self._unchecked = self._check_every
        self._page_cache = PageCache()

    @property
    def directory(self) -> Path:
        return self._store.spool_directory

    def acquire(
        self,
        inode: Inode,
        *,
        writing: bool,
        fresh: bool = False,
        open_older: Callable[[], Older | None] = lambda: None,
    ) -> SpoolFile:
        """Return a use of the spool file of an inode, valid until the matching `release`.

        `fresh`: the file is new or emptied. `open_older` is called if nobody has the file open yet, and may raise.
        """
        number = inode.spool_number
        with self._lock:
            entry = self._open.get(number)
            if entry is None:
                older = open_older()
                try:
                    fd = _open_spool_file(self._store.spool_path(inode), shows_older=older is not None)
                except BaseException:
                    if older is not None:
                        older.close()
                    raise
                entry = self._open[number] = _Open(fd, older, recorded_nbytes=0 if older is None else older.nbytes)
                entry.marked = bool(os.fstat(fd).st_mode & WRITING_MODE)
            entry.handles += 1
            entry.writers += writing
            if writing:
                self._expected_until_s.pop(number, None)
            if fresh:
                self._mark(entry)
            return SpoolFile(entry.fd, entry.older)

    def closed(self, inode: Inode) -> None:
        """Take what was written so far for finished until it is written on: a descriptor of a writer was closed."""
        with self._lock:
            self._unmark(self._open[inode.spool_number])

    def _mark(self, entry: _Open) -> None:
        if not entry.marked:
            os.fchmod(entry.fd, 0o600 | WRITING_MODE)
            entry.marked = True

    def _unmark(self, entry: _Open) -> None:
        if entry.marked:
            os.fchmod(entry.fd, 0o600)
            entry.marked = False

    def release(self, inode: Inode, *, writing: bool, closing: bool = True) -> None:
        """`closing`: the end of a handle or of a write, after which nothing more is to come if it was the last."""
        number = inode.spool_number
        with self._lock:
            entry = self._open[number]
            entry.handles -= 1
            entry.writers -= writing
            if writing and closing and not entry.writers:
                self._unmark(entry)
            if not entry.handles:
                del self._open[number]
                os.close(entry.fd)
                if entry.older is not None:
                    entry.older.close()

    def expect(self, number: InodeId) -> None:
        """Take a spool file for one that is written to until it is, or until its writer has had time enough to come."""
        with self._lock:
            now_s = time.monotonic()
            for late in [one for one, until_s in self._expected_until_s.items() if until_s <= now_s]:
                del self._expected_until_s[late]
            self._expected_until_s[number] = now_s + _EXPECTED_S

    def writing(self) -> Collection[InodeId]:
        """Return the spool files that some handle may still write to, and those for which one is expected."""
        with self._lock:
            now_s = time.monotonic()
            written = {number for number, entry in self._open.items() if entry.writers}
            return written | {one for one, until_s in self._expected_until_s.items() if until_s > now_s}

    def write(self, inode: Inode, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data` to a file that is open. Raises NoSpace before the disk is full to the last byte, Damaged
        where the older version cannot be read.
        """
        self._check_space(len(data))
        entry = self._use(inode)
        try:
            older = entry.older_from(offset)
            if older is None:
                _write_all(entry.fd, offset, data)
            else:
                with entry.filling:
                    before, behind = fill_edges(entry.fd, older, offset, len(data))
                    _write_all(
                        entry.fd, offset - len(before), b"".join((before, data, behind)) if before or behind else data
                    )
        except OSError as error:
            raise self._no_space(error) from error
        finally:
            self.release(inode, writing=True)
        return len(data)

    def write_at_once(self, inode: Inode, offset: int, data: bytes | memoryview) -> bool:
        """Write all of `data` to a file that the caller has open for writing, if that takes but a copy of them.

        Return whether it was done; if not, `write` has to be called on a thread that may wait. Raises NoSpace.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            entry = self._open[inode.spool_number]
            if entry.older_from(offset) is not None or not self._page_cache.takes(len(data)):
                return False
            self._count_space(len(data))
            self._mark(entry)
        finally:
            self._lock.release()
        began_s = time.perf_counter()
        try:
            _write_all(entry.fd, offset, data)
        except OSError as error:
            raise self._no_space(error) from error
        self._page_cache.took(time.perf_counter() - began_s)
        return True

    def _use(self, inode: Inode) -> _Open:
        """Count one writer more of a file that is open, until `release`."""
        with self._lock:
            entry = self._open[inode.spool_number]
            entry.handles += 1
            entry.writers += 1
            self._mark(entry)
            return entry

    def truncate(self, inode: Inode, nbytes: int) -> int | None:
        """Set the size of a file that is open.

        Return how many bytes of an older version show through now, if that is less than is recorded: to be recorded,
        and noted by `clip_recorded`, before the file may grow again.
        """
        entry = self._use(inode)
        try:
            with entry.filling:
                os.ftruncate(entry.fd, nbytes)
                if entry.older is None:
                    return None
                entry.older.clip(nbytes)
                if entry.older.nbytes >= entry.recorded_nbytes:
                    return None
                faults.point("clip.truncated")
                return entry.older.nbytes
        except OSError as error:
            raise self._no_space(error) from error
        finally:
            self.release(inode, writing=True)

    def clip_recorded(self, inode: Inode, nbytes: int) -> None:
        """Take note that the rows of a file that is open have no more of its older version than so many bytes."""
        with self._lock:
            self._open[inode.spool_number].recorded_nbytes = nbytes

    def set_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """Set when a file was last changed. Raises Damaged, OSError."""
        with self._lock:
            entry = self._open.get(inode.spool_number)
            path = self._store.spool_path(inode)
            fd = _open_spool_file(path, shows_older=inode.layout_sum != 0) if entry is None else entry.fd
            try:
                os.utime(fd, ns=(time.time_ns(), bounded_time_ns(mtime_ns)))
            finally:
                if entry is None:
                    os.close(fd)

    def sync(self, inode: Inode) -> None:
        """Make content and name of a spool file that is open safe from a power cut."""
        with self._lock:
            entry = self._open[inode.spool_number]
            entry.handles += 1
        try:
            os.fsync(entry.fd)
        finally:
            self.release(inode, writing=False)
        sync_directory(self.directory)

    def make(self, number: InodeId, nbytes: int = 0, content: Bytes | None = None) -> None:
        """Make a spool file that no inode has yet: empty, with a copy of some content, or `nbytes` long and one hole.

        A kill leaves a file that the next mount clears away. Raises NoSpace.
        """
        fd = create_file(self.directory / str(number))
        try:
            if content is not None:
                for offset in range(0, content.nbytes, _COPY_NBYTES):
                    self._check_space(_COPY_NBYTES)
                    _write_all(fd, offset, content.read(offset, _COPY_NBYTES))
            elif nbytes:
                os.ftruncate(fd, nbytes)
                claim_holes(fd)
                # First of all: after a power cut, a shorter file would say that the older version was cut off.
                os.fsync(fd)
                sync_directory(self.directory)
        except OSError as error:
            raise self._no_space(error) from error
        finally:
            os.close(fd)

    def discard(self, number: InodeId) -> None:
        """Delete a spool file that no inode has."""
        (self.directory / str(number)).unlink(missing_ok=True)

    def _check_space(self, nbytes: int) -> None:
        with self._lock:
            self._count_space(nbytes)

    def _count_space(self, nbytes: int) -> None:
        """Under the lock."""
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


def clear_spool(store: Store) -> None:
    """Bring spool and catalog to the same point after a kill; no mount may have the store.

    Removed are files that no inode has: of what was unlinked while open, or was made and not committed. Where a file
    was cut off, what is stored shows through it up to there only, also when it grows again.
    """
    needed = store.catalog.spooled()
    for name in os.listdir(store.spool_directory):
        if name.isdecimal() and InodeId(int(name)) not in needed:
            (store.spool_directory / name).unlink(missing_ok=True)
    for inode_id in store.catalog.ids_in(State.OPEN):
        with suppress(FileNotFoundError, CatalogDamaged):  # whoever opens it is told
            inode = store.catalog.inode(inode_id)
            if not inode.layout_sum:
                continue
            nbytes = store.spool_path(inode).stat().st_size
            extents = store.catalog.extents(inode)
            if extents and nbytes < extents[-1].offset + extents[-1].nbytes:
                with store.transaction() as txn:
                    clip(txn, inode.id, nbytes)


def stat_spool_file(store: Store, inode: Inode) -> os.stat_result:
    """Return what the spool file of open content is like, made where a kill has left none.

    Raises Damaged where it is no file, or is not what an older version shows through.
    """
    fd = _open_spool_file(store.spool_path(inode), shows_older=inode.layout_sum != 0)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _open_spool_file(path: Path, *, shows_older: bool) -> int:
    """Open a spool file, made where a kill between a file's row and its spool file has left none."""
    if not shows_older:
        return open_or_create_file(path)
    try:
        fd = open_file(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise Damaged(
            path, "is missing, and what was changed of a file with it; `zipfs fsck` names the file"
        ) from error
    try:
        check_holes(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_all(fd: int, offset: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]
