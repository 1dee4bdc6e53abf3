"""What a mount may tell whom. The kernel guards what is in a file; this guards what a mount tells *about* files.

The owner of the mount and root are told everything. Whoever else --allow-other lets in is told of a file only where he
could find it by himself: where he may list and enter every directory that leads to it. What it cost to store is told to
nobody else, for a file that cost nothing is one that somebody else has.

All of this runs on the event loop, like the answers that it is for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zipfs.errors import NotFound, PathError
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Inode, InodeId

_READ: Final = 4
_LIST_AND_ENTER: Final = 5
_OWNERS: Final = frozenset({0, os.geteuid()})
_LISTED_AT_MOST: Final = 64
"""Paths that are looked into for one answer: some milliseconds, in which nothing else is answered."""
_TEXTS: Final = ("version", "store", "mountpoint", "ended")
"""Of the status: what the table of mounts tells everybody, and how the worker ended, which names no file."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: as the kernel checks the rights of a process."""

    uid: int
    groups: frozenset[int]

    @property
    def sees_everything(self) -> bool:
        return self.uid in _OWNERS

    def may(self, rights: int, inode: Inode) -> bool:
        """Return whether the mode of an inode grants some of read (4), write (2), enter (1)."""
        if self.uid == inode.uid:
            granted = inode.mode >> 6
        elif inode.gid in self.groups:
            granted = inode.mode >> 3
        else:
            granted = inode.mode
        return granted & rights == rights


def requester(uid: int, gid: int, pid: int) -> Requester:
    """Return who sent a request. Supplementary groups are read from /proc, and are none where that does not say."""
    if uid in _OWNERS:
        return Requester(uid, frozenset())
    return Requester(uid, groups_of(uid, gid, pid))


def groups_of(uid: int, gid: int, pid: int) -> frozenset[int]:
    """Return the groups that a process is in."""
    return frozenset({gid}) | _supplementary_groups(pid, uid)


def _supplementary_groups(pid: int, uid: int) -> frozenset[int]:
    """Read the groups of a process, if it is still one of that user: of another PID namespace the kernel says 0."""
    if pid <= 0:
        return frozenset()
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        if int(fields["Uid"][3]) != uid:  # the fourth is that by which rights to files are checked
            return frozenset()
        return frozenset(map(int, fields["Groups"]))
    except (OSError, ValueError, LookupError):
        return frozenset()


class Sight:
    """What one requester sees of a tree, for the time of one answer."""

    def __init__(self, catalog: Catalog, who: Requester) -> None:
        self._catalog = catalog
        self._who = who
        self._open: dict[InodeId, bool] = {}

    def finds(self, path: bytes) -> bool:
        """Return whether a path of the served tree, or its like below `ingest/`, is found by listing directories."""
        if self._who.sees_everything:
            return True
        return any(self._finds(path, root) for root in (ROOT, INGEST_ROOT))

    def _finds(self, path: bytes, root: InodeId) -> bool:
        try:
            directory = tree.resolve(self._catalog, os.path.dirname(path), root)
            found = self._catalog.entry(directory.id, os.path.basename(path)) is not None
            return found and self._is_open(directory.id)
        except PathError:
            return False

    def path_of(self, inode_id: InodeId) -> bytes:
        """Return a path at which a file is served and may be read; b"" if there is none."""
        if self._who.sees_everything:
            return tree.served_path(self._catalog, inode_id)
        try:
            if not self._who.may(_READ, self._catalog.inode(inode_id)):
                return b""
            for entry in self._catalog.entries_of(inode_id):
                if self._is_open(entry.parent_id):
                    return b"/".join(filter(None, (tree.path_of(self._catalog, entry.parent_id), entry.name)))
        except NotFound:  # it has just gone
            pass
        return b""

    def _is_open(self, directory: InodeId) -> bool:
        """Return whether a directory, and all above it, can be listed and entered."""
        known = self._open.get(directory)
        if known is None:
            known = self._who.may(_LIST_AND_ENTER, self._catalog.inode(directory)) and self._is_open_above(directory)
            self._open[directory] = known
        return known

    def _is_open_above(self, directory: InodeId) -> bool:
        above = [entry.parent_id for entry in tree.ancestry(self._catalog, directory)]
        if directory == INGEST_ROOT or INGEST_ROOT in above:
            above.append(ROOT)
        return all(self._who.may(_LIST_AND_ENTER, self._catalog.inode(parent)) for parent in above)


def status_for_others(document: Mapping[str, Any], finds: Callable[[bytes], bool]) -> dict[str, Any]:
    """Return the numbers of a status, and of its lists what names a path that can be found. Whatever else may be in it
    is for its owner alone.
    """
    told: dict[str, Any] = {}
    for key, value in document.items():
        if value is None or isinstance(value, int | float) or key in _TEXTS:
            told[key] = value
        elif isinstance(value, list):
            told[key] = [item for item in value[:_LISTED_AT_MOST] if _names_found(item, finds)]
        elif isinstance(value, dict):
            told[key] = status_for_others(value, finds)
    return told


def _names_found(item: object, finds: Callable[[bytes], bool]) -> bool:
    path = item.get("path") if isinstance(item, dict) else item
    return isinstance(path, str) and finds(os.fsencode(path))
