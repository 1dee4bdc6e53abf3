"""The task of a mount that seals what is quiet.

Only directories in which something has happened are looked into, once they are quiet, and by a thread: thousands of
files that wait cost the event loop nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial

import trio

from zipfs.errors import ZipfsError
from zipfs.host import printable
from zipfs.ingest.seal import note_failure, note_interrupted, seal
from zipfs.ingest.seal_plan import Held, Pending, plan_quiet
from zipfs.ingest.spool import Spool
from zipfs.mount.change_log import ChangeLog
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace.unfinished import UnfinishedNames
from zipfs.store.objects.values import InodeId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_SEARCH_AGAIN_S = 30.0
"""For what could not be sealed; sooner at first."""
_SEARCH_SOON_S = 1.0
_AFTER_FAILURE_S = 2.0
_AT_LEAST_S = 0.05
_REST = 5.0
"""Pause after a pass, as a multiple of the time that it took."""


class Sealer:
    """Run `watch` as a task of the event loop."""

    def __init__(
        self, change_log: ChangeLog, spool: Spool, names: UnfinishedNames, *, quiet_s: float, linger_s: float
    ) -> None:
        self._change_log = change_log
        self._remembered_s = max(quiet_s, linger_s)
        """Seconds for which the time of a change matters."""
        self._spool = spool
        self._names = names
        self._quiet_s = quiet_s
        self._sealing_s = 0.0
        """Seconds that the last pass took."""
        self._waiting: set[InodeId] = set()
        """Directories that were looked into and belong to a model that is not quiet, is written to or was cut off."""
        self._quiet_at_s = math.inf
        """When the next of these models may be quiet."""
        self._search_due_s = 0.0
        self._search_pause_s = _SEARCH_SOON_S
        self._told: set[InodeId] = set()
        """Files that were cut off and of which the log has told."""
        self.sealed = trio.Event()
        """Set whenever the queue has grown."""

    def sealed_more(self) -> None:
        """Tell that the queue has grown."""
        self.sealed.set()

    async def watch(self) -> None:
        while True:
            try:
                due_s = await self._seal_ready()
            except Exception:  # a mount goes on serving whatever happens here
                log.exception("sealing failed and is tried again")
                due_s = _AFTER_FAILURE_S
            if due_s is None:
                with trio.move_on_after(max(0.0, self._search_due_s - trio.current_time())):
                    await self._change_log.something_pending.wait()
                due_s = min(self._quiet_s, _SEARCH_AGAIN_S)  # what has just changed cannot be ready before
            await trio.sleep(max(_AT_LEAST_S, min(due_s, _SEARCH_AGAIN_S), _REST * self._sealing_s))

    async def _seal_ready(self) -> float | None:
        """Seal what is ready. Return the seconds until more may become so as time passes, None if nothing will."""
        change_log = self._change_log
        change_log.something_pending = trio.Event()
        if trio.current_time() >= self._search_due_s:
            await self._search()
        due_s = self._due_s()
        if due_s is None or due_s > 0:
            return due_s
        examined = change_log.unexamined | self._waiting
        change_log.unexamined, self._waiting = set(), examined  # they wait until it is known better
        began_s = trio.current_time()
        plan = partial(
            plan_quiet,
            directories=examined,
            names=self._names,
            spool=self._spool.directory,
            writing=self._spool.writing(),
            last_change_s=dict(change_log.last_change_s),
            now_s=began_s,
            quiet_s=self._quiet_s,
        )
        found = await change_log.read_catalog(plan)
        self._sealing_s = trio.current_time() - began_s
        self._waiting = found.waiting
        self._quiet_at_s = math.inf if found.next_s is None else began_s + found.next_s
        failed = False
        for group in found.plan.ready:
            failed = not await self._seal(group) or failed
        for held in found.plan.held:
            await self._note_interrupted(held)
        if failed:
            self._search_due_s = trio.current_time() + self._search_pause_s
            self._search_pause_s = min(2 * self._search_pause_s, _SEARCH_AGAIN_S)
        elif found.plan.ready:
            self._search_pause_s = _SEARCH_SOON_S
        return self._due_s()

    def _due_s(self) -> float | None:
        """Return the seconds until a directory in which something has happened, or a model that waits, may be quiet."""
        change_log = self._change_log
        at_s = [change_log.last_change_s[directory] + self._quiet_s for directory in change_log.unexamined]
        due_s = min(self._quiet_at_s, *at_s) if at_s else self._quiet_at_s
        return None if due_s == math.inf else max(0.0, due_s - trio.current_time())

    async def _search(self) -> None:
        """Find every directory with something to seal: when a mount starts, and for what could not be sealed before."""
        now_s = trio.current_time()
        for directory in await self._change_log.read_catalog(Catalog.pending_directories):
            # A mount that starts again gives writers that do too their time.
            self._change_log.last_change_s.setdefault(directory, now_s)
            self._change_log.unexamined.add(directory)
        self._change_log.forget_before(now_s - self._remembered_s)
        self._search_due_s = trio.current_time() + _SEARCH_AGAIN_S

    async def _seal(self, group: Sequence[Pending]) -> bool:
        """Seal what belongs together. Return False if some of it could not be; a search finds that again.

        One model that cannot be sealed never keeps others from it.
        """
        try:
            sealed = await self._change_log.run(partial(self._seal_group, group))
        except Exception as error:
            if isinstance(error, ZipfsError):
                log.error("%s cannot be sealed: %s", printable(group[0].path), error)
            else:
                log.exception("%s cannot be sealed", printable(group[0].path))
            why = f"cannot be sealed: {error}"
            try:
                await self._change_log.run(lambda store: note_failure(store, group, lambda _: why))
            except ZipfsError as second:
                log.error("that %s cannot be sealed is not noted either: %s", printable(group[0].path), second)
            return False
        if sealed is None:
            return True
        if sealed:
            self.sealed_more()
        return len(sealed) == sum(not item.inode.is_directory for item in group)

    def _seal_group(self, group: Sequence[Pending], store: Store) -> list[Pending] | None:
        """Return what was sealed; None if something has happened since it was planned.

        Runs on the change thread, under its lock: whatever was changed before has touched its directory by now.
        """
        if any(item.directory in self._change_log.unexamined for item in group):
            self._waiting.update(item.directory for item in group)
            return None
        sealed = seal(store, group, self._spool.writing)
        if sealed:  # a line for each would be most of the log where thousands of small files come at once
            more = f" and {len(sealed) - 1} more" if len(sealed) > 1 else ""
            log.info("sealed %s%s", printable(sealed[0].path), more)
        return sealed

    async def _note_interrupted(self, held: Held) -> None:
        if not held.interrupted or not await self._change_log.run(partial(self._note_if_still_so, held)):
            return
        for item in held.interrupted:
            if item.inode.id not in self._told:
                log.warning("%s was being written when the mount ended; it waits below ingest/", printable(item.path))
                self._told.add(item.inode.id)

    def _note_if_still_so(self, held: Held, store: Store) -> bool:
        """Note what was cut off, unless it has changed since it was planned; return whether it has not.

        Runs on the change thread, under its lock. What is opened for writing between two steps of a plan looks cut off.
        """
        if any(item.directory in self._change_log.unexamined for item in held.items):
            return False
        return note_interrupted(store, held)
