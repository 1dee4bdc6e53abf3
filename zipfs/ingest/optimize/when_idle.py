"""Owns what a worker does when nothing waits: merge small packs, optimize the store, slowly, and stop when
something comes.

Run by the thread that runs the worker. One run rebases so many bytes, at such a pace that a disk and a core are left
to whoever reads; the store is planned for again only when tensors have come since the last one that found nothing left
to do.
"""

from __future__ import annotations

import logging
from typing import Final

from zipfs.errors import Damaged, NoSpace, StoreBusy
from zipfs.ingest.optimize.run import BUSY, Limits, optimize
from zipfs.store.disk.progress import Report
from zipfs.store.disk.stopping import Stop
from zipfs.store.maintenance.collect import merge_small_packs
from zipfs.store.store import Store

log = logging.getLogger(__name__)

LIMITS: Final = Limits(nbytes=16 << 30, rate=64 << 20)


class Idler:
    """`busy` is set when there is something to compress, or when the worker has to end."""

    def __init__(self, store: Store, busy: Stop, report: Report) -> None:
        self._store = store
        self._busy = busy
        self._report = report
        self._seen = 0
        """The id that the next tensor was to get, when nothing was left to do."""

    def tidy(self) -> None:
        """Merge small packs, if there are enough of them: whoever adds a little every few seconds makes one each time.

        Takes seconds at most, and is done whether or not the store is optimized. Raises Stopped.
        """
        try:
            with self._store.lock("pack").held(BUSY, waiting=None):
                done = merge_small_packs(self._store)
        except StoreBusy:
            return
        except (NoSpace, Damaged) as error:
            log.error("could not merge small packs: %s", error)
            return
        if done.packs_merged:
            log.info("merged %d small packs", done.packs_merged)
        for message in done.damaged:
            log.error("left as it is: %s", message)

    def work(self) -> None:
        """Optimize, if there is anything new; returns soon after `busy` is set."""
        _, begun_at = self._store.catalog.next_ids()
        if begun_at == self._seen:
            return
        try:
            done = optimize(self._store, self._report, limits=LIMITS, stop=self._busy, wait=False, threads=1)
        except (NoSpace, Damaged) as error:
            log.error("could not optimize: %s", error)
            self._seen = begun_at
            return
        if done.rebased.tensors:
            log.info(
                "optimized: %d tensors (%d bytes raw) rebased take %d bytes less; %d bytes freed",
                done.rebased.tensors,
                done.rebased.moved_nbytes,
                done.rebased.saved_nbytes,
                done.collected.freed_nbytes,
            )
        if not done.stopped and not done.left_nbytes:
            self._seen = begun_at
