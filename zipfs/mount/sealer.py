"""The task of a mount that seals what is quiet, and drops echoes when their time has come."""

from __future__ import annotations

import logging
import os
from functools import partial

import trio

from zipfs.errors import ZipfsError
from zipfs.ingest.seal import Pending, drop_echoes, find_pending, plan_seals, seal
from zipfs.ingest.spool import Spool
from zipfs.mount.changes import Changes
from zipfs.store.rows import Area
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30.0
"""For what failed to be sealed, and for echoes."""
_AT_LEAST_S = 0.05


class Sealer:
    """Run `watch` as a task of the event loop."""

    def __init__(self, store: Store, changes: Changes, spool: Spool, *, quiet_s: float, linger_s: float) -> None:
        self._store = store
        self._changes = changes
        self._spool = spool
        self._quiet_s = quiet_s
        self._linger_s = linger_s
        self.unfinished: tuple[Pending, ...] = ()
        """Files whose names say that they are not done, at the last look."""
        self.sealed = trio.Event()
        """Set whenever the queue has grown."""

    async def watch(self) -> None:
        started_s = trio.current_time()
        # A mount that starts again gives writers that do too their time.
        for item in find_pending(self._store.catalog):
            self._changes.last_change_s.setdefault(item.directory, started_s)
        while True:
            try:
                pause_s = await self._look()
                await self._drop_echoes(started_s)
            except ZipfsError as error:
                log.error("sealing: %s", error)
                pause_s = _LOOK_AGAIN_S
            with trio.move_on_after(max(_AT_LEAST_S, pause_s)):
                await self._changes.something_pending.wait()

    def current(self) -> list[Pending]:
        """What is waiting for its seal, by name finished or not."""
        return find_pending(self._store.catalog)

    async def _look(self) -> float:
        """Seal what is ready; returns how long nothing more can become so by itself."""
        self._changes.something_pending = trio.Event()
        plan = plan_seals(
            self.current(), self._spool.writing(), self._changes.last_change_s, trio.current_time(), self._quiet_s
        )
        self.unfinished = plan.unfinished
        for group in plan.ready:
            sealed = await self._changes.run(partial(seal, group=group))
            for item in sealed:
                log.info("sealed %s", os.fsdecode(item.path))
            if sealed:
                self.sealed.set()
        return min(_LOOK_AGAIN_S, plan.next_s if plan.next_s is not None else _LOOK_AGAIN_S)

    async def _drop_echoes(self, started_s: float) -> None:
        now_s = trio.current_time()
        parents = {entry.parent_id for entry in self._store.catalog.entries_in(Area.ECHO)}
        idle = {
            directory
            for directory in parents
            if self._changes.last_change_s.get(directory, started_s) + self._linger_s <= now_s
        }
        if idle:
            await self._changes.run(lambda store: drop_echoes(store, idle))
