"""The task of a mount that seals what was written in the served tree, file by file, when it is quiet.

What is open content there is looked at when something has happened to it, and once when the mount starts. Planning and
sealing run on other threads: thousands of files that wait cost the event loop nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import trio

from zipfs.ingest.seal_written import WrittenPlan, plan_written, seal_written
from zipfs.ingest.spool import Spool
from zipfs.mount.change_log import ChangeLog
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace.unfinished import UnfinishedNames
from zipfs.store.objects.values import InodeId, State

log = logging.getLogger(__name__)

_AT_LEAST_S = 0.05
_AT_MOST_S = 1.0
_AFTER_FAILURE_S = 2.0
_AT_ONCE = 256
"""Files that are sealed in one transaction: other changes wait for it."""
_CODED_NBYTES_S = 50e6
"""Bytes that are compressed in a second, about."""
_UNFINISHED_AGAIN_S = 30.0


class Finisher:
    """Run `watch` as a task of the event loop."""

    def __init__(
        self,
        change_log: ChangeLog,
        spool: Spool,
        names: UnfinishedNames,
        *,
        quiet_s: float,
        is_written: Callable[[InodeId], bool],
        tell_sealed: Callable[[], None],
    ) -> None:
        """`is_written` says whether somebody has a file open who may write to it: his last close is told of."""
        self._change_log = change_log
        self._spool = spool
        self._names = names
        self._quiet_s = quiet_s
        self._is_written = is_written
        self._tell_sealed = tell_sealed

    async def watch(self) -> None:
        await self._find_open()
        while True:
            if not self._change_log.last_write_s:
                self._change_log.something_written = trio.Event()
                await self._change_log.something_written.wait()
            pause_s = max(_AT_LEAST_S, min(self._quiet_s / 2, _AT_MOST_S))
            try:
                await self._seal_quiet()
            except Exception:  # a mount goes on serving whatever happens here
                log.exception("sealing what was written fails and is tried again")
                pause_s = _AFTER_FAILURE_S
            await trio.sleep(pause_s)

    async def _find_open(self) -> None:
        """Look at everything that an earlier mount has left open: its writers get the time that others get."""
        found = await self._change_log.read_catalog(lambda catalog: catalog.ids_in(State.OPEN))
        self._change_log.touch_written(found)

    async def _seal_quiet(self) -> None:
        change_log = self._change_log
        now_s = trio.current_time()
        quiet = [inode_id for inode_id, at_s in change_log.last_write_s.items() if at_s + self._quiet_s <= now_s]
        for inode_id in filter(self._is_written, quiet):
            del change_log.last_write_s[inode_id]  # thousands that stay open are not looked at again and again
        quiet = [inode_id for inode_id in quiet if inode_id in change_log.last_write_s]
        for start in range(0, len(quiet), _AT_ONCE):
            await self._seal(quiet[start : start + _AT_ONCE])

    async def _seal(self, quiet: list[InodeId]) -> None:
        change_log = self._change_log
        looked_s = {inode_id: change_log.last_write_s.get(inode_id) for inode_id in quiet}
        plan = await change_log.read_catalog(partial(_plan, quiet, self._names))
        writing = self._spool.writing()
        now_s = trio.current_time()
        waiting: dict[InodeId, float] = {}
        ready = []
        for inode in plan.ready:
            changed_s = looked_s[inode.id]
            # Content that was compressed before and is written to now and then is compressed again at leisure.
            patience_s = self._quiet_s + (inode.nbytes / _CODED_NBYTES_S if inode.layout_sum else 0.0)
            if inode.spool_number in writing:
                waiting[inode.id] = now_s
            elif changed_s is not None and changed_s + patience_s > now_s:
                waiting[inode.id] = changed_s
            else:
                ready.append(inode)
        waiting |= {inode.id: now_s + _UNFINISHED_AGAIN_S - self._quiet_s for inode in plan.unfinished}
        sealed = []
        if ready:
            sealed = await change_log.run(partial(seal_written, inodes=ready, writing=self._spool.writing))
        for inode_id in quiet:
            if change_log.last_write_s.get(inode_id) == looked_s[inode_id]:  # else something has happened since
                if inode_id in waiting:
                    change_log.last_write_s[inode_id] = waiting[inode_id]
                else:
                    change_log.last_write_s.pop(inode_id, None)
        if sealed:
            log.info("sealed %d of the files that were written in place", len(sealed))
            self._tell_sealed()


def _plan(quiet: list[InodeId], names: UnfinishedNames, catalog: Catalog) -> WrittenPlan:
    return plan_written(catalog, quiet, names)
