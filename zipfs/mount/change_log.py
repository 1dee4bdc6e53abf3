"""The threads of a mount that change the catalog, and that look through it for long; and what was changed of late.

A transaction may wait for another process and for the disk. Reads must not, so changes are made one at a time on a
worker thread with a catalog session of its own, while the event loop goes on reading from its own. So is what reads
thousands of rows, with a third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import trio

from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance.remove import free_spool, sync_spool
from zipfs.store.objects.values import InodeId
from zipfs.store.store import Store
from zipfs.vfs.change import Change

T = TypeVar("T")


class ChangeLog:
    """Call from the event loop only."""

    def __init__(self, store: Store) -> None:
        self._session = store.session()
        self._reading_session = store.session()
        self._reading = trio.Lock()
        self.lock = trio.Lock()
        """Held while a change is under way."""
        self._own: set[int] = set()
        """Sequence numbers of changes that the kernel made itself and need not be told."""
        self.last_change_s: dict[InodeId, float] = {}
        """When something last happened in a directory below `ingest/`, on the event loop's clock."""
        self.unexamined: set[InodeId] = set()
        """Directories below `ingest/` in which something has happened since the sealer last looked."""
        self.something_pending = trio.Event()
        self.last_write_s: dict[InodeId, float] = {}
        """When something last happened to a file of the served tree that is not sealed, on the event loop's clock."""
        self.something_written = trio.Event()

    async def make(self, work: Callable[[Transaction], Change], *, removes: bool = False, fault: str = "") -> Change:
        """Make a change in a transaction, and free what raw content goes with it.

        What only `removes` may use the room that the store holds back.
        """

        def run() -> tuple[Change, int]:
            with self._session.transaction(fault=fault) as txn:
                change = work(txn)
            if change.kept_first is not None and any(inode.is_spooled for inode in change.gone):
                sync_spool(self._session, change.kept_first)
            free_spool(self._session, change.gone)
            return change, txn.seq

        attempt = partial(self._session.reserve.removing, run) if removes else run
        async with self.lock:
            change, seq = await trio.to_thread.run_sync(attempt)
            if seq and not change.beyond:  # the request that asked for it tells the kernel all there is
                self._own.add(seq)
            self.touch(change.touched)
            self.touch_written(change.written)
        return change

    async def run(self, work: Callable[[Store], T]) -> T:
        """Run something that makes its own transactions."""
        async with self.lock:
            return await trio.to_thread.run_sync(work, self._session)

    async def read_catalog(self, work: Callable[[Catalog], T]) -> T:
        """Run something that reads only, beside changes: what it finds may be out of date when it returns."""
        return await self.read_store(lambda store: work(store.catalog))

    async def read_store(self, work: Callable[[Store], T]) -> T:
        """Run something that reads more of the store than its catalog."""
        async with self._reading:
            return await trio.to_thread.run_sync(work, self._reading_session)

    def take_own(self, seq: int) -> bool:
        """Whether a change was the kernel's own; asked once for each."""
        if seq in self._own:
            self._own.remove(seq)
            return True
        return False

    def touch(self, directories: Iterable[InodeId]) -> None:
        """Note that something has happened in directories below `ingest/`."""
        now_s = trio.current_time()
        for directory in directories:
            self.last_change_s[directory] = now_s
            self.unexamined.add(directory)
            self.something_pending.set()

    def touch_written(self, inode_ids: Iterable[InodeId]) -> None:
        """Note that something has happened to files of the served tree."""
        now_s = trio.current_time()
        for inode_id in inode_ids:
            self.last_write_s[inode_id] = now_s
            self.something_written.set()

    def changed_since(self, at_s: float) -> list[InodeId]:
        """Return the directories below `ingest/` in which something has happened since a time."""
        return [directory for directory, changed_s in self.last_change_s.items() if changed_s > at_s]

    def forget_before(self, at_s: float) -> None:
        """Let go of directories in which nothing has happened since a time, and nothing is to be looked at."""
        self.last_change_s = {
            directory: changed_s
            for directory, changed_s in self.last_change_s.items()
            if changed_s >= at_s or directory in self.unexamined
        }

    def close(self) -> None:
        self._session.close()
        self._reading_session.close()
