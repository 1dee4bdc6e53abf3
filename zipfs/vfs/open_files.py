"""What is open, by inode, and what is kept of what has lost its last name meanwhile. Used by one thread."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from zipfs.reading.content import Content
from zipfs.store.catalog.queries import Catalog
from zipfs.store.objects.values import Entry, Inode, InodeId
from zipfs.vfs.place import Place


@dataclass(slots=True, eq=False)
class OpenFile:
    """`content` reads. That of a file in the spool (`spooled`) counts there until it is closed."""

    where: Place
    inode: Inode
    """As it was when it was opened."""
    content: Content
    pid: int
    """The thread that opened it."""
    spooled: bool
    writing: bool
    touched_s: float = -math.inf
    """When a write to it was last noted, on the event loop's clock."""
    reads: int = 0
    """Reads under way."""
    _left: list[Content] = field(default_factory=list)
    """What reads under way may still read from, and no later ones."""

    def read_on(self, inode: Inode, content: Content) -> None:
        """Read from the spool from now on: the file is being written to. Takes over a use of the spool."""
        self._left.append(self.content)
        self.inode, self.content, self.spooled = inode, content, True
        self._close_left()

    def end_read(self) -> None:
        """Count one read under way less."""
        self.reads -= 1
        self._close_left()

    def _close_left(self) -> None:
        if not self.reads:
            while self._left:
                self._left.pop().close()


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """A directory that is being listed.

    It holds the names that there were when reading last began at the start: who adds one for each that is read still
    comes to an end.
    """

    where: Place
    inode: Inode
    """As it was when it was opened."""
    names: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Unlinked:
    """What no name leads to any more, while somebody has it open: what is changed of it is kept here."""

    inode: Inode
    xattrs: dict[bytes, bytes]


class OpenFiles:
    """Everything that is open in a mount."""

    def __init__(self) -> None:
        self._users: defaultdict[InodeId, list[OpenFile | OpenDirectory]] = defaultdict(list)
        self._unlinked: dict[InodeId, Unlinked] = {}

    def add(self, what: OpenFile | OpenDirectory) -> None:
        self._users[what.inode.id].append(what)

    def remove(self, what: OpenFile | OpenDirectory) -> None:
        users = self._users[what.inode.id]
        users.remove(what)
        if not users:
            del self._users[what.inode.id]
            self._unlinked.pop(what.inode.id, None)

    def of_inode(self, inode_id: InodeId) -> list[OpenFile]:
        return [one for one in self._users.get(inode_id, ()) if isinstance(one, OpenFile)]

    def writers(self) -> list[OpenFile]:
        """Return the files that may be written to."""
        return [one for users in self._users.values() for one in users if isinstance(one, OpenFile) and one.writing]

    def is_written(self, inode_id: InodeId) -> bool:
        """Return whether somebody has a file open who may write to it."""
        return any(file.writing for file in self.of_inode(inode_id))

    def count(self) -> int:
        """Return how many times a file is open; directories do not count."""
        return sum(isinstance(one, OpenFile) for users in self._users.values() for one in users)

    def is_open(self, inode_id: InodeId) -> bool:
        return inode_id in self._users

    def remember(self, catalog: Catalog, parent_id: InodeId, name: bytes) -> Entry | None:
        """Keep what a name leads to, which is about to vanish, for whoever has it open."""
        entry = catalog.entry(parent_id, name)
        if entry is not None:
            self.remember_inode(catalog, entry.inode_id)
        return entry

    def remember_inode(self, catalog: Catalog, inode_id: InodeId) -> None:
        """Keep what is known of an inode that is about to lose its names, for whoever has it open."""
        if inode_id in self._users:
            self._unlinked[inode_id] = Unlinked(catalog.inode(inode_id), catalog.xattrs(inode_id))

    def unlinked(self, inode_id: InodeId) -> Unlinked | None:
        """Return what is kept of an inode that has no row any more, or what it was when it was opened."""
        users = self._users.get(inode_id)
        if not users:
            return None
        if inode_id not in self._unlinked:
            self._unlinked[inode_id] = Unlinked(users[0].inode, {})
        return self._unlinked[inode_id]
