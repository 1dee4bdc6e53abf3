"""The task of a mount that seals what is quiet, and drops echoes when their time has come."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import partial

import trio

from zipfs.errors import ZipfsError
from zipfs.ingest.seal import Pending, drop_echoes, find_pending, plan_seals, seal
from zipfs.ingest.spool import Spool
from zipfs.mount.changes import Changes
from zipfs.store.rows import Area, InodeId, Kind
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30.0
"""For what failed to be sealed, and for echoes."""
_AFTER_FAILURE_S = 2.0
_AT_LEAST_S = 0.05
_REST = 5.0
"""Pause after a look, as a multiple of the time that it took."""


class Sealer:
    """Run `watch` as a task of the event loop."""

    def __init__(self, store: Store, changes: Changes, spool: Spool, *, quiet_s: float, linger_s: float) -> None:
        self._store = store
        self._changes = changes
        self._spool = spool
        self._quiet_s = quiet_s
        self._linger_s = linger_s
        self._look_s = 0.0
        """What the last look took."""
        self._echo_pause_s = min(max(1.0, linger_s), _LOOK_AGAIN_S)
        self._echoes_due_s = 0.0
        self.sealed = trio.Event()
        """Set whenever the queue has grown."""

    async def watch(self) -> None:
        started_s = trio.current_time()
        # A mount that starts again gives writers that do too their time.
        with suppress(ZipfsError):
            for item in self.current():
                self._changes.last_change_s.setdefault(item.directory, started_s)
        while True:
            try:
                due_s = await self._look()
                await self._drop_echoes(started_s)
            except Exception:  # a mount goes on serving whatever happens here
                log.exception("sealing failed and is tried again")
                due_s = _AFTER_FAILURE_S
            if due_s is None:
                with trio.move_on_after(self._echo_pause_s):
                    await self._changes.something_pending.wait()
                due_s = self._quiet_s  # what has just changed cannot be ready before
            # A look costs time for each pending file: it is not taken again for each of thousands that are coming in.
            await trio.sleep(max(_AT_LEAST_S, due_s, _REST * self._look_s))

    def current(self) -> list[Pending]:
        """What is waiting for its seal, by name finished or not."""
        return find_pending(self._store.catalog)

    async def _look(self) -> float | None:
        """Seal what is ready; returns the seconds until more may become so by time alone, None if nothing will."""
        self._changes.something_pending = trio.Event()
        began_s = trio.current_time()
        plan = plan_seals(self.current(), self._spool.writing(), self._changes.last_change_s, began_s, self._quiet_s)
        self._look_s = trio.current_time() - began_s
        for group in plan.ready:
            sealed = await self._changes.run(partial(seal, group=group, writing=self._spool.writing))
            for item in sealed:
                log.info("sealed %s", os.fsdecode(item.path))
            if sealed:
                self.sealed.set()
        return plan.next_s

    async def _drop_echoes(self, started_s: float) -> None:
        now_s = trio.current_time()
        if now_s < self._echoes_due_s:
            return
        self._echoes_due_s = now_s + self._echo_pause_s
        rows = self._store.catalog.query(
            "SELECT parent_id FROM entries WHERE area = ? UNION SELECT inodes.id FROM entries"
            " JOIN inodes ON inodes.id = inode_id WHERE area = ? AND inodes.kind = ?",
            (int(Area.ECHO), int(Area.ECHO), Kind.DIRECTORY.value),
        )
        idle = {
            directory
            for directory in (InodeId(row[0]) for row in rows)
            if self._changes.last_change_s.get(directory, started_s) + self._linger_s <= now_s
        }
        if idle:
            await self._changes.run(lambda store: drop_echoes(store, idle))
