"""Files that are open in the spool, in both trees, and how finished ones come there again."""

from __future__ import annotations

import enum
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from zipfs.errors import Damaged, Gone
from zipfs.ingest.spool import Spool, SpoolFile
from zipfs.reading import Reader, open_content
from zipfs.reading.content import Content, OlderVersion, SpooledContent, open_older
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.disk.files import open_file
from zipfs.store.namespace import writing
from zipfs.store.objects.values import Area, Inode, InodeId, State
from zipfs.store.store import Store
from zipfs.vfs.change import Change
from zipfs.vfs.lookup import Lookup
from zipfs.vfs.open_files import OpenFile, OpenFiles
from zipfs.vfs.place import Place
from zipfs.vfs.trees import Name, NewInode, Tree


class WritableFiles:
    """Opens files in the spool. Used by one thread."""

    def __init__(self, store: Store, spool: Spool, lookup: Lookup, reader: Reader, open_files: OpenFiles) -> None:
        self._store = store
        self.spool = spool
        self._lookup = lookup
        self._reader = reader
        self._open_files = open_files

    def is_open_content(self, where: Place) -> bool:
        """Return whether a file is in the spool and may still change. Raises as `Lookup.inode` does."""
        return self._lookup.inode(where).state is State.OPEN

    def open_spooled(self, where: Place, pid: int, *, writing: bool, fresh: bool = False) -> OpenFile | None:
        """Open a file in the spool; None for one that is finished. Keep it from being sealed meanwhile, if `writing`.

        Whoever has the finished content of one that is opened for writing open reads what is written from now on.

        Raises Damaged, CatalogDamaged, OSError.
        """
        inode = self._lookup.inode(where)
        if inode.state is not State.OPEN:
            return None
        file = self.opened(where, inode, self.acquire(inode, writing=writing, fresh=fresh), pid, writing)
        if writing:
            try:
                self._let_read_on(inode)
            except BaseException:
                file.content.close()
                raise
        return file

    def acquire(self, inode: Inode, *, writing: bool, fresh: bool = False) -> SpoolFile:
        """Take a use of a spool file. Of one through which nothing shows, any thread may."""
        if not inode.layout_sum:
            return self.spool.acquire(inode, writing=writing, fresh=fresh)
        older = partial(open_older, self._store, self._reader, inode)
        return self.spool.acquire(inode, writing=writing, fresh=fresh, open_older=older)

    def opened(self, where: Place, inode: Inode, file: SpoolFile, pid: int, writing: bool) -> OpenFile:
        return OpenFile(where, inode, self._content(inode, file, writing), pid, spooled=True, writing=writing)

    def _content(self, inode: Inode, file: SpoolFile, writing: bool) -> SpooledContent:
        """Return content that takes over a use of the spool."""
        older = file.older
        assert older is None or isinstance(older, OlderVersion)
        release = partial(self.spool.release, inode, writing=writing)
        return SpooledContent(file.fd, str(self._store.spool_path(inode)), self._reader, older, release)

    def new_file(self, tree: Tree, parent: Place, name: Name, new: NewInode) -> NewFile:
        """Return a file that is to be made and opened for writing."""
        return NewFile(self, tree, parent, name, new)

    def reopening(
        self, where: Place, inode: Inode, number: InodeId, *, emptied: bool, leaving: bool = False
    ) -> Reopening:
        """Return how finished content becomes open again, in spool file `number`.

        `leaving`: one that is read by others is left to them.

        Raises Gone for what has no name here any more: it is unlinked, or another open was first.
        """
        names = self._store.catalog.entries_of(inode.id)
        if not any((entry.area is not Area.SERVED) is where.under_ingest for entry in names):
            raise Gone(f"inode {inode.id}")
        is_read = any(not file.where.under_ingest for file in self._open_files.of_inode(inode.id))
        apart = (
            where.under_ingest
            or (leaving and inode.nbytes > 0 and is_read)
            or any(entry.area is Area.PENDING for entry in names)
        )
        begins = self._beginning(inode, emptied=emptied, apart=apart)
        content = open_content(self._store, self._reader, inode) if begins is Beginning.COPY else None
        return Reopening(self._store, self.spool, inode, number, where.under_ingest, apart, begins, content)

    def _beginning(self, inode: Inode, *, emptied: bool, apart: bool) -> Beginning:
        if emptied:
            return Beginning.EMPTY
        if inode.state is State.STORED:
            return Beginning.HOLE if self.spool.keeps_holes and inode.nbytes else Beginning.COPY
        return Beginning.COPY if apart else Beginning.SAME

    def clip(self, txn: Transaction, inode_id: InodeId, nbytes: int) -> Change:
        """Note that an older version shows through as far as `nbytes` only. Raises NotFound."""
        return Change(writing.clip(txn, inode_id, nbytes))

    def _let_read_on(self, inode: Inode) -> None:
        """Have whoever has the finished content of a served file open read from its spool file.

        Who has it open by a name below `ingest/` keeps the older version: the kernel takes that for another file.
        """
        for file in self._open_files.of_inode(inode.id):
            if not file.where.under_ingest and not (file.spooled and file.inode.spool_number == inode.spool_number):
                content = self._content(inode, self.acquire(inode, writing=False), writing=False)
                file.read_on(inode, content)


class Beginning(enum.Enum):
    """What is in the spool file with which finished content becomes open again."""

    EMPTY = enum.auto()
    """Nothing: it is written anew."""
    HOLE = enum.auto()
    """Nothing, and what is stored shows through."""
    SAME = enum.auto()
    """What is in the spool still: it is the very file, by another name. Who compresses it notices by that."""
    COPY = enum.auto()
    """A copy, also of nothing: the older version goes its own way, or the file system of the spool keeps no holes."""


@dataclass(frozen=True, slots=True)
class Reopening:
    """Finished content that becomes open again. `prepare` runs on any thread, `make` in a transaction after it."""

    store: Store
    spool: Spool
    inode: Inode
    number: InodeId
    """Of the spool file that it gets, and of the inode, if that is a new one."""
    under_ingest: bool
    apart: bool
    """Whether the names lead to a new inode."""
    begins: Beginning
    content: Content | None
    """What is to be copied."""

    def prepare(self) -> None:
        """Make the spool file. Raises NoSpace, Damaged, OSError."""
        path = self.spool.directory / str(self.number)
        match self.begins:
            case Beginning.EMPTY:
                self.spool.make(self.number)
            case Beginning.HOLE:
                self.spool.make(self.number, self.inode.nbytes)
            case Beginning.SAME:
                # Gone if it has just been compressed: `make` finds that the inode has changed.
                with suppress(FileNotFoundError):
                    os.link(self.store.spool_path(self.inode), path)
                    fd = open_file(path)
                    try:
                        if os.fstat(fd).st_mtime_ns != self.inode.mtime_ns:  # it was set since the seal
                            os.utime(fd, ns=(self.inode.mtime_ns, self.inode.mtime_ns))
                    finally:
                        os.close(fd)
            case Beginning.COPY:
                assert self.content is not None
                self.spool.make(self.number, content=self.content)
        if self.begins in (Beginning.HOLE, Beginning.COPY):  # opening a file for writing is no change yet
            os.utime(path, ns=(self.inode.mtime_ns, self.inode.mtime_ns))
        faults.point("reopen.prepared")

    def make(self, txn: Transaction) -> Change:
        """Write the rows. `inode` of what is returned is None if the inode has changed since: look again.

        Raises Damaged where there was nothing in the spool, and the inode is what it was.
        """
        shows_older = self.begins in (Beginning.HOLE, Beginning.SAME)
        if self.apart:
            found = writing.supersede(
                txn, self.inode, self.number, under_ingest=self.under_ingest, shows_older=shows_older
            )
            if found is None:
                return Change()
            return Change(found[0], found[1], kept_first=[found[0]], beyond=True)
        keeps = self.begins is not Beginning.EMPTY
        inode = writing.resume(txn, self.inode, self.number, keeps=keeps, shows_older=shows_older)
        if inode is None:
            return Change()
        if self.begins is Beginning.SAME and not os.path.lexists(self.store.spool_path(inode)):
            raise Damaged(self.store.spool_path(self.inode), "is missing, and its content was not compressed yet")
        kept = [] if self.begins is Beginning.SAME else [inode]
        return Change(inode, [self.inode], kept_first=kept, beyond=True)

    def close(self) -> None:
        """Let go of what was to be copied."""
        if self.content is not None:
            self.content.close()

    def abandon(self) -> None:
        """Delete the spool file that was made in vain."""
        self.spool.discard(self.number)


class NewFile:
    """A file that is being made. `make` has it opened before it is there: what cannot be opened is not left behind."""

    def __init__(self, files: WritableFiles, tree: Tree, parent: Place, name: Name, new: NewInode) -> None:
        self._files = files
        self._tree = tree
        self._parent = parent
        self._name = name
        self._new = new
        self._acquired: tuple[Inode, SpoolFile] | None = None

    def make(self, txn: Transaction) -> Change:
        change = self._tree.make(txn, self._name, self._new)
        assert change.inode is not None
        self._acquired = change.inode, self._files.acquire(change.inode, writing=True, fresh=True)
        return change

    def opened(self, pid: int) -> OpenFile:
        """Return the file that was made, once that is committed."""
        assert self._acquired is not None
        inode, file = self._acquired
        return self._files.opened(self._parent.beside(inode.id), inode, file, pid, writing=True)

    def abandon(self) -> None:
        """Let go of what was not committed."""
        if self._acquired is not None:
            inode = self._acquired[0]
            self._files.spool.release(inode, writing=True)
            self._files.spool.discard(inode.spool_number)
