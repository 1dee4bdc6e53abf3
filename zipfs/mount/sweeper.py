"""The task of a mount that takes away what refused copies have left (`vfs/refused_copies.py`)."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path

import trio

from zipfs.mount import points
from zipfs.mount.change_log import ChangeLog
from zipfs.vfs.refused_copies import RefusedCopies, take_away, topmost

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_AT_LEAST_S = 0.1


class Sweeper:
    """Run `watch` as a task of the event loop."""

    def __init__(self, change_log: ChangeLog, refused: RefusedCopies, mountpoint: Path) -> None:
        self._change_log = change_log
        self._refused = refused
        self._mountpoint = mountpoint

    async def watch(self) -> None:
        while True:
            due_s = self._refused.due_in_s()
            if due_s == 0:
                try:
                    await self._sweep()
                except Exception:  # a mount goes on serving whatever happens here
                    log.exception("directories that a refused copy has left stay")
            await trio.sleep(_LOOK_EVERY_S if not due_s else max(_AT_LEAST_S, due_s))

    async def _sweep(self) -> None:
        """Take away the trees of directories in which files were refused, each as a whole or not at all.

        One in which a process stands stays.
        """
        refused, made = self._refused.take()
        tops = await self._change_log.read_catalog(partial(topmost, refused, made))
        for top, path in tops.items():
            if await trio.to_thread.run_sync(points.users_of, os.path.join(self._mountpoint, os.fsdecode(path)), 1):
                continue
            change = await self._change_log.make(partial(take_away, top, made))
            if change.inode is not None:
                log.info("took %s away, which a copy had left empty that was refused its files", os.fsdecode(path))
