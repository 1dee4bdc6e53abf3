"""Tells the kernel of changes that it did not make: by this mount's own sealing, its worker, or another process.

The manifest log doubles as the list of changes. Invalidations go to the kernel from a thread of their own and nowhere
else: such a call waits in the kernel for operations on the same directory, which the event loop must be free to answer.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial

import pyfuse3
import trio

from zipfs.errors import Damaged, NotFound, ZipfsError
from zipfs.mount.changes import Changes
from zipfs.mount.numbers import numbers
from zipfs.store import record
from zipfs.store.catalog import Position
from zipfs.store.manifests import ManifestLog
from zipfs.store.rows import InodeId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_POLL_S = 0.1
_JOIN_S = 2.0


class Feed:
    """Run `follow` as a task of the event loop; `version` counts what it has seen of the catalog."""

    def __init__(self, store: Store, changes: Changes) -> None:
        self._store = store
        self._changes = changes
        self._manifests = ManifestLog(store.path / "manifests", store.id, read_only=True)
        self._position = store.catalog.position()
        self._manifests.nbytes(
            self._position.segment
        )  # opens it, so that it can be read to its end once it is replaced
        self._data_version = -1
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._notify, name="invalidate", daemon=True)

    async def follow(self) -> None:
        self._thread.start()
        try:
            while True:
                await trio.sleep(_POLL_S)
                version = self._store.catalog.data_version()
                if version == self._data_version:
                    continue
                async with self._changes.lock:
                    self._data_version = version
                    self._read_to(self._store.catalog.position())
        except ZipfsError as error:
            log.error("changes by other processes are no longer followed: %s", error)
        finally:
            self._calls.put(None)
            # A call that waits for a request which nobody answers any more ends with the connection.
            self._thread.join(_JOIN_S)
            self._manifests.close()

    def _read_to(self, position: Position) -> None:
        """Queue invalidations for what was logged since the last time."""
        seen = self._position
        if position == seen:
            return
        try:
            if position.segment == seen.segment:
                self._read(seen.segment, seen.offset, position.offset)
            else:
                self._read(seen.segment, seen.offset, None)  # our descriptor outlives the segment's name
                self._read(position.segment, 0, position.offset)
        except (Damaged, OSError) as error:
            log.warning("some changes by other processes may be seen late: %s", error)
        self._position = position

    def _read(self, segment: int, offset: int, end: int | None) -> None:
        for entry in self._manifests.read(segment, offset, end):
            if entry.flags & record.SNAPSHOT or self._changes.take_own(entry.seq):
                continue
            for (parent, name), row in entry.changes.entries.items():
                if row is not None and self._is_directory(row.inode_id):
                    continue  # a name that leads to a directory is new, or as it was; whoever stands in it keeps it so
                for number in numbers(parent):
                    self._calls.put(partial(pyfuse3.invalidate_entry, number, pyfuse3.FileNameT(name)))
            if entry.changes.packs:
                self._store.packs.forget_deleted()
            for inode_id in entry.changes.inodes:
                for number in numbers(inode_id):
                    self._calls.put(partial(pyfuse3.invalidate_inode, number, attr_only=True))

    def _is_directory(self, inode_id: InodeId) -> bool:
        try:
            return self._store.catalog.inode(inode_id).is_directory
        except NotFound:
            return False

    def _notify(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except OSError as error:
                # ENOENT: the kernel does not know it. ENOTDIR, EBADF: it has just been unmounted or replaced.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ENODEV, errno.ENOTEMPTY):
                    log.warning("the kernel was not told of a change: %s", error)
