"""What is left of attempts to copy into the served tree: `cp -r model MOUNT/` makes a directory there, is refused every
file (EROFS), and goes, leaving the directory.

Such directories are taken away again a little later, and whoever looks for the reason finds it in the log and in the
status. Only what the mount itself has seen being made is touched, and only where a file was refused in it; where
anything but such directories has come in meanwhile, or a process stands in one, all of it stays.
"""

from __future__ import annotations

import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio

from zipfs.errors import NotFound
from zipfs.mount import points
from zipfs.mount.changes import Changes
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, InodeId

log = logging.getLogger(__name__)

QUIET_S: Final = 5.0
"""After the last file that was refused below a directory: a copy goes on with the next, a person tries otherwise."""
_AT_ONCE_S: Final = 60.0
"""What is refused a file so much later than it was made, was made for something else."""
_MADE_AT_MOST: Final = 4096
"""Directories that are remembered to have been made here, the last ones."""
_TOLD_S: Final = 3600.0
"""How long the status gives the hint."""
HINT: Final = "files were refused here, because what is served cannot be written to: copy them into ingest/ instead"


class Refusals:
    """Used by the event loop; run `watch` as a task of it."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._made: OrderedDict[InodeId, float] = OrderedDict()
        self._refused: dict[InodeId, float] = {}
        """Directories made here -> when a file was last refused in them."""
        self._last_s: float | None = None
        self._something = trio.Event()

    def made(self, directory: InodeId) -> None:
        """A directory was made in the served tree."""
        self._made[directory] = trio.current_time()
        while len(self._made) > _MADE_AT_MOST:
            self._refused.pop(self._made.popitem(last=False)[0], None)

    def refuse(self, directory: InodeId, name: bytes) -> None:
        """A file was to be created in a directory of the served tree, and was not."""
        now_s = trio.current_time()
        if self._last_s is None or now_s - self._last_s > QUIET_S:
            log.warning("%s: %s", os.fsdecode(name), HINT)
        self._last_s = now_s
        if now_s - self._made.get(directory, -math.inf) < _AT_ONCE_S:
            self._refused[directory] = now_s
            self._something.set()

    def hints(self) -> list[str]:
        """What the status tells people."""
        recent = self._last_s is not None and trio.current_time() - self._last_s < _TOLD_S
        return [HINT] if recent else []

    async def watch(self, mountpoint: Path) -> None:
        while True:
            await self._something.wait()
            self._something = trio.Event()
            while self._refused:
                await trio.sleep(max(0.1, max(self._refused.values()) + QUIET_S - trio.current_time()))
                if max(self._refused.values()) + QUIET_S <= trio.current_time():
                    try:
                        await self._clear(mountpoint)
                    except Exception:  # a mount goes on serving whatever happens here
                        log.exception("directories that a refused copy has left stay")
                        self._refused.clear()

    async def _clear(self, mountpoint: Path) -> None:
        """Take away the trees of directories in which files were refused, each as a whole or not at all."""
        refused, self._refused = list(self._refused), {}
        made = dict(self._made)
        tops = await self._changes.look(partial(_tops, refused, made))
        for top, path in tops.items():
            if await trio.to_thread.run_sync(points.users_of, os.path.join(mountpoint, os.fsdecode(path)), 1):
                continue
            if await self._changes.make(partial(_remove, top, made), kernel_knows=False):
                log.info("took %s away, which a copy had left empty that was refused its files", os.fsdecode(path))


def _tops(refused: list[InodeId], made: Mapping[InodeId, float], catalog: Catalog) -> dict[InodeId, bytes]:
    """The highest directories that were made in one go with those in which files were refused, and their paths."""
    found: dict[InodeId, bytes] = {}
    for directory in refused:
        top = directory
        try:
            above = tree.parent_entry(catalog, top).parent_id
            while above != ROOT and made.get(above, -math.inf) > made[top] - _AT_ONCE_S:
                top, above = above, tree.parent_entry(catalog, above).parent_id
            found[top] = tree.path_of(catalog, top)
        except NotFound:
            continue  # removed since
    return found


def _remove(top: InodeId, made: Mapping[InodeId, float], txn: Transaction) -> bool:
    """Remove a directory with all below it, if all of that are directories made here."""
    try:
        entry = tree.parent_entry(txn.catalog, top)
    except NotFound:
        return False
    below = tree.walk(txn.catalog, txn.catalog.inode(top))
    if any(inode.id not in made for _, inode in below):
        return False
    tree.remove_tree(txn, entry.parent_id, entry.name)
    return True
