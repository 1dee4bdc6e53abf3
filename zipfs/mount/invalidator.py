"""Tells the kernel of changes that it did not make: by this mount's own sealing, its worker, or another process.

The manifest log doubles as the list of changes. Invalidations go to the kernel from a thread of their own and nowhere
else: such a call waits in the kernel for operations on the same directory, which the event loop must be free to answer.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyfuse3
import trio

from zipfs.errors import Damaged, NotFound, ZipfsError
from zipfs.mount.change_log import ChangeLog
from zipfs.mount.numbers import numbers
from zipfs.store.catalog import log_record
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Position
from zipfs.store.objects.values import InodeId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_POLL_S = 0.1
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Told:
    """What of one record the kernel may have to be told."""

    seq: int
    names: list[tuple[InodeId, bytes]]
    unsure: list[tuple[InodeId, bytes, InodeId]]
    """Names of inodes of which the record does not say whether they are directories."""
    inodes: list[InodeId]
    packs: bool


class Invalidator:
    """Run `follow` as a task of the event loop."""

    def __init__(self, store: Store, change_log: ChangeLog) -> None:
        self._store = store
        self._change_log = change_log
        self._manifests = ManifestLog(store.path / "manifests", store.id, read_only=True)
        self._position = store.catalog.position()
        self._manifests.nbytes(
            self._position.segment
        )  # opens it, so that it can be read to its end once it is replaced
        self._data_version = -1
        self._queue: queue.SimpleQueue[_Told | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._notify, name="invalidate", daemon=True)

    async def follow(self) -> None:
        self._thread.start()
        try:
            while True:
                await trio.sleep(_POLL_S)
                version = self._store.catalog.data_version()
                if version != self._data_version:
                    self._data_version = version
                    await self._catch_up()
        except ZipfsError as error:
            log.error("changes by other processes are no longer followed: %s", error)
        finally:
            self._ended.set()  # what is left to tell is of no use, and telling must not go on while libfuse closes
            self._queue.put(None)
            # A call that waits for a request which nobody answers any more ends with the connection.
            self._thread.join(_JOIN_S)
            self._manifests.close()

    async def _catch_up(self) -> None:
        """Have the kernel told of what was logged since the last time."""
        async with self._change_log.lock:  # so whoever made a change up to there has noted that it is the kernel's own
            position = self._store.catalog.position()
        if position == self._position:
            return
        # Thousands of names take seconds, for which requests are not to wait.
        for told in await trio.to_thread.run_sync(self._read_to, position):
            if self._change_log.take_own(told.seq):
                continue
            told.names.extend((parent, name) for parent, name, inode in told.unsure if not self._is_directory(inode))
            if told.packs:
                self._store.packs.release_deleted()
            self._queue.put(told)
        self._position = position

    def _read_to(self, position: Position) -> list[_Told]:
        seen = self._position
        found: list[_Told] = []
        try:
            if position.segment == seen.segment:
                found += self._read(seen.segment, seen.offset, position.offset)
            else:
                found += self._read(seen.segment, seen.offset, None)  # our descriptor outlives the segment's name
                found += self._read(position.segment, 0, position.offset)
        except (Damaged, OSError) as error:
            log.warning("some changes by other processes may be seen late: %s", error)
        return found

    def _read(self, segment: int, offset: int, end: int | None) -> Iterator[_Told]:
        for entry in self._manifests.read(segment, offset, end):
            if not entry.flags & log_record.SNAPSHOT:
                yield _told(entry)

    def _is_directory(self, inode_id: InodeId) -> bool:
        try:
            return self._store.catalog.inode(inode_id).is_directory
        except NotFound:
            return False

    def _notify(self) -> None:
        while (told := self._queue.get()) is not None:
            for call in _calls(told):
                if self._ended.is_set():
                    return
                _tell(call)


def _told(entry: log_record.Record) -> _Told:
    """Return what of a record the kernel may have to be told. Pure.

    A name that leads to a directory is new, or as it was: whoever stands in it keeps it so.
    """
    names, unsure = [], []
    for (parent, name), row in entry.changes.entries.items():
        inode = None if row is None else entry.changes.inodes.get(row.inode_id)
        if row is not None and inode is None:
            unsure.append((parent, name, row.inode_id))
        elif inode is None or not inode.is_directory:
            names.append((parent, name))
    return _Told(entry.seq, names, unsure, list(entry.changes.inodes), bool(entry.changes.packs))


def _calls(told: _Told) -> Iterator[Callable[[], None]]:
    for parent, name in told.names:
        for number in numbers(parent):
            yield partial(pyfuse3.invalidate_entry, number, pyfuse3.FileNameT(name))
    for inode_id in told.inodes:
        for number in numbers(inode_id):
            yield partial(pyfuse3.invalidate_inode, number, attr_only=True)


def _tell(call: Callable[[], None]) -> None:
    try:
        call()
    except OSError as error:
        # ENOENT: the kernel does not know it. ENOTDIR, EBADF: it has just been unmounted or replaced.
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ENODEV, errno.ENOTEMPTY):
            log.warning("the kernel was not told of a change: %s", error)
