"""The task of a mount that seals what is quiet, and drops echoes when their time has come.

Only directories in which something has happened are looked into, once they are quiet, and by a thread: thousands of
files that wait cost the event loop nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from functools import partial

import trio

from zipfs.ingest.seal import Pending, drop_echoes, find_pending, plan_seals, seal
from zipfs.ingest.spool import Spool
from zipfs.mount.changes import Changes
from zipfs.store.catalog import Catalog
from zipfs.store.rows import InodeId
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

    def __init__(self, changes: Changes, spool: Spool, *, quiet_s: float, linger_s: float) -> None:
        self._changes = changes
        self._spool = spool
        self._quiet_s = quiet_s
        self._linger_s = linger_s
        self._look_s = 0.0
        """What the last look took."""
        self._started_s = 0.0
        self._search_due_s = 0.0
        self._echo_pause_s = min(max(1.0, linger_s), _LOOK_AGAIN_S)
        self._echoes_due_s = 0.0
        self.sealed = trio.Event()
        """Set whenever the queue has grown."""

    async def watch(self) -> None:
        self._started_s = trio.current_time()
        while True:
            try:
                due_s = await self._look()
                await self._drop_echoes()
            except Exception:  # a mount goes on serving whatever happens here
                log.exception("sealing failed and is tried again")
                due_s = _AFTER_FAILURE_S
            if due_s is None:
                with trio.move_on_after(self._echo_pause_s):
                    await self._changes.something_pending.wait()
                due_s = self._quiet_s  # what has just changed cannot be ready before
            await trio.sleep(max(_AT_LEAST_S, due_s, _REST * self._look_s))

    async def _look(self) -> float | None:
        """Seal what is ready; returns the seconds until more may become so by time alone, None if nothing will."""
        changes = self._changes
        changes.something_pending = trio.Event()
        began_s = trio.current_time()
        if began_s >= self._search_due_s:
            await self._search()
        quiet = {directory for directory in changes.unsettled if self._remaining_s(directory) <= 0}
        changes.unsettled -= quiet
        try:
            await self._seal(quiet)
        except BaseException:
            changes.unsettled |= quiet
            raise
        return min((max(0.0, self._remaining_s(directory)) for directory in changes.unsettled), default=None)

    def _remaining_s(self, directory: InodeId) -> float:
        """Seconds until a directory has been quiet for long enough."""
        return self._changes.last_change_s[directory] + self._quiet_s - trio.current_time()

    async def _search(self) -> None:
        """Find every directory with something to seal: when a mount starts, and for what could not be sealed before."""
        for directory in await self._changes.look(Catalog.pending_directories):
            # A mount that starts again gives writers that do too their time.
            self._changes.last_change_s.setdefault(directory, self._started_s)
            self._changes.unsettled.add(directory)
        self._search_due_s = trio.current_time() + self._echo_pause_s

    async def _seal(self, quiet: Collection[InodeId]) -> None:
        """Seal what quiet directories answer for.

        What somebody may still write to is left, and the release of it touches its directory; so are unfinished names,
        and a rename does. What fails is found again by the next search.
        """
        if not quiet:
            return
        began_s = trio.current_time()
        pending = await self._changes.look(partial(find_pending, directories=quiet))
        now_s = trio.current_time()
        self._look_s = now_s - began_s
        plan = plan_seals(pending, self._spool.writing(), self._changes.last_change_s, now_s, self._quiet_s)
        for group in plan.ready:
            if await self._changes.run(partial(self._seal_group, group)):
                self.sealed.set()

    def _seal_group(self, group: Sequence[Pending], store: Store) -> bool:
        """Whether a file was sealed. On the change thread, under its lock: whatever was changed before has touched its
        directory by now.
        """
        if group[0].directory in self._changes.unsettled:
            return False
        sealed = seal(store, group, self._spool.writing)
        for item in sealed:
            log.info("sealed %s", os.fsdecode(item.path))
        return bool(sealed)

    async def _drop_echoes(self) -> None:
        now_s = trio.current_time()
        if now_s < self._echoes_due_s:
            return
        self._echoes_due_s = now_s + self._echo_pause_s
        idle = {
            directory
            for directory in await self._changes.look(Catalog.echo_directories)
            if self._changes.last_change_s.get(directory, self._started_s) + self._linger_s <= now_s
        }
        if idle:
            await self._changes.run(lambda store: drop_echoes(store, idle))
