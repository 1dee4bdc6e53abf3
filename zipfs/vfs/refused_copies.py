"""What is left of attempts to copy into the served tree: `cp -r model MOUNT/` makes a directory there, is refused every
file (EROFS), and goes, leaving the directory.

Such directories are taken away again a little later, and whoever looks for the reason finds it in the log and in the
status. Only what the mount itself has seen being made is touched, and only where a file was refused in it; where
anything but such directories has come in meanwhile, all of it stays.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Final

from zipfs.errors import NotFound
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, InodeId
from zipfs.vfs.change import Change

log = logging.getLogger(__name__)

QUIET_S: Final = 5.0
"""After the last file that was refused below a directory: a copy goes on with the next, a person tries otherwise."""
_AT_ONCE_S: Final = 60.0
"""What is refused a file so much later than it was made, was made for something else."""
_MADE_AT_MOST: Final = 4096
"""Directories that are remembered to have been made here, the last ones."""
_HINTED_S: Final = 3600.0
"""How long the status gives the hint."""
HINT: Final = "files were refused here, because what is served cannot be written to: copy them into ingest/ instead"

Made = Mapping[InodeId, float]
"""Directories and when they were made."""


class RefusedCopies:
    """The directories that were made in the served tree of late, and where files were refused. Used by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made: OrderedDict[InodeId, float] = OrderedDict()
        self._refused: dict[InodeId, float] = {}
        """Directories made here -> when a file was last refused in them."""
        self._last_s: float | None = None

    def made(self, directory: InodeId) -> None:
        """Remember a directory that was made in the served tree."""
        self._made[directory] = self._clock()
        while len(self._made) > _MADE_AT_MOST:
            self._refused.pop(self._made.popitem(last=False)[0], None)

    def refuse(self, directory: InodeId, name: bytes) -> None:
        """Remember that a file was to be created in a directory of the served tree, and was not."""
        now_s = self._clock()
        if self._last_s is None or now_s - self._last_s > QUIET_S:
            log.warning("%s: %s", os.fsdecode(name), HINT)
        self._last_s = now_s
        if now_s - self._made.get(directory, -math.inf) < _AT_ONCE_S:
            self._refused[directory] = now_s

    def hints(self) -> list[str]:
        """Return what the status is to say."""
        recent = self._last_s is not None and self._clock() - self._last_s < _HINTED_S
        return [HINT] if recent else []

    def due_in_s(self) -> float | None:
        """Return the seconds until there is something to take away; None if there is nothing."""
        if not self._refused:
            return None
        return max(0.0, max(self._refused.values()) + QUIET_S - self._clock())

    def take(self) -> tuple[list[InodeId], dict[InodeId, float]]:
        """Return the directories in which files were refused, which are forgotten, and all that were made."""
        refused, self._refused = list(self._refused), {}
        return refused, dict(self._made)


def topmost(refused: Collection[InodeId], made: Made, catalog: Catalog) -> dict[InodeId, bytes]:
    """Find the highest directories that were made in one go with those in which files were refused, and their paths."""
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


def take_away(top: InodeId, made: Made, txn: Transaction) -> Change:
    """Remove a directory with all below it, if all of that are directories made here; `inode` says whether it was."""
    try:
        entry = tree.parent_entry(txn.catalog, top)
    except NotFound:
        return Change()
    inode = txn.catalog.inode(top)
    if any(found.id not in made for _, found in tree.walk(txn.catalog, inode)):
        return Change()
    return Change(inode, tree.remove_tree(txn, entry.parent_id, entry.name), beyond=True)
