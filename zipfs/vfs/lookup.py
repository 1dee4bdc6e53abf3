"""What names lead to, what directories hold, and what is known of an inode. Used by one thread.

What was removed or replaced while somebody has it open is answered as any other file system would.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from zipfs.errors import Gone, NotFound
from zipfs.reading.content import SpooledContent
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Inode, InodeId
from zipfs.store.store import Store
from zipfs.vfs.open_files import OpenFiles
from zipfs.vfs.place import INGEST, Place

DOTS: Final = (b".", b"..")
_SPECIAL: Final = frozenset({*DOTS, INGEST})
_PAGE_NAMES: Final = 4096
"""Names of a directory that are read in one go: 2 ms."""
_REMOVED: Final = 1024
"""Inodes that are remembered after their removal; requests that were under way with it are answered within moments."""

Found = tuple[Inode, int]
"""An inode and how many names it has in both trees."""


class Lookup:
    """Both trees, or the served one alone."""

    def __init__(self, store: Store, open_files: OpenFiles, *, shows_ingest: bool) -> None:
        self._store = store
        self._open_files = open_files
        self._shows_ingest = shows_ingest
        self._removed: dict[InodeId, None] = {}
        """Inodes whose last name was unlinked here a moment ago."""

    def removed(self, gone: Iterable[Inode]) -> None:
        """Remember what was unlinked here: its name is free."""
        for inode in gone:
            self._removed[inode.id] = None
            if len(self._removed) > _REMOVED:
                del self._removed[next(iter(self._removed))]

    def missing(self, where: Place) -> NotFound:
        """Return the error for an inode that is gone.

        Gone has a name looked up once more, which finds what has taken the place of what the kernel remembers. What was
        unlinked here has left its name free, and NotFound is the whole truth.
        """
        return (NotFound if where.inode_id in self._removed else Gone)(f"inode {where.inode_id}")

    def inode(self, where: Place) -> Inode:
        """Return an inode. Raises Gone or NotFound for what is gone, unless somebody still has it open."""
        try:
            return self._store.catalog.inode(where.inode_id)
        except NotFound as error:
            unlinked = self._open_files.unlinked(where.inode_id)
            if unlinked is None:
                raise self.missing(where) from error
            return unlinked.inode

    def named(self, where: Place) -> Found:
        """Return an inode that has a name. Raises Gone or NotFound for any other."""
        try:
            return self._store.catalog.inode_and_names(where.inode_id)
        except NotFound as error:
            raise self.missing(where) from error

    def stat(self, where: Place) -> tuple[Inode, int, os.stat_result | None]:
        """Return an inode, how many names it has, and its spool file where that is known only by being open."""
        try:
            return *self._store.catalog.inode_and_names(where.inode_id), None
        except NotFound as error:
            unlinked = self._open_files.unlinked(where.inode_id)
            if unlinked is None:
                raise self.missing(where) from error
            contents = [file.content for file in self._open_files.of_inode(where.inode_id)]
            spooled = next((content.stat() for content in contents if isinstance(content, SpooledContent)), None)
            return unlinked.inode, 0, spooled

    def child(self, parent: Place, name: bytes) -> Found | None:
        """Return what a name of a directory leads to. Raises NameTooLong, and Gone or NotFound for a lost directory."""
        tree.check_name(name)
        special = self._special(parent, name) if name in _SPECIAL else None
        if special is not None:
            return self.named(special)
        found = self._store.catalog.child(parent.inode_id, name)
        if found is None:
            self.inode(parent)
        return found

    def children(self, parent: Place, names: Sequence[bytes]) -> dict[bytes, Found]:
        """Return what each of at most `NAMES_AT_ONCE` names leads to; one that is not there is left out."""
        found = self._store.catalog.children_named(parent.inode_id, names)
        for name in _SPECIAL.intersection(names):
            special = self._special(parent, name)
            if special is not None:
                try:
                    found[name] = self.named(special)
                except NotFound:  # of a directory that was removed
                    continue
        return found

    def _special(self, parent: Place, name: bytes) -> Place | None:
        if name == b".":
            return parent
        if name == b"..":
            return self._parent(parent)
        if parent.inode_id == ROOT and name == INGEST and self._shows_ingest:
            return Place(INGEST_ROOT, True)
        return None

    def _parent(self, where: Place) -> Place:
        if where.inode_id in (ROOT, INGEST_ROOT):
            return Place(ROOT, False)
        return where.beside(tree.parent_entry(self._store.catalog, where.inode_id).parent_id)

    def pages(self, where: Place) -> Iterator[list[bytes]]:
        """Yield the names of a directory, some at a time: what uses this may do something else between two pages."""
        last: bytes | None = None
        while True:
            names = self._store.catalog.names_after(where.inode_id, last, _PAGE_NAMES)
            yield names
            if len(names) < _PAGE_NAMES:
                return
            last = names[-1]

    def at_top(self, where: Place) -> list[bytes]:
        """Return the names that a listing begins with."""
        return [*DOTS, INGEST] if where.inode_id == ROOT and self._shows_ingest else [*DOTS]

    def xattrs(self, where: Place) -> dict[bytes, bytes]:
        """Return the extended attributes that users have set."""
        catalog = self._store.catalog
        found = catalog.xattrs(where.inode_id)
        if found or not self._open_files.is_open(where.inode_id) or catalog.has_name(where.inode_id):
            return found
        unlinked = self._open_files.unlinked(where.inode_id)
        return found if unlinked is None else unlinked.xattrs
