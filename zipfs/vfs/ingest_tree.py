"""The ingest tree: names below `ingest/`, and files that are written there.

A file is written to its spool file. What is sealed is never written to: its names below `ingest/` get a new inode
first, with the old content unless that is to be truncated.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from functools import partial
from typing import Final

from zipfs.errors import AlreadyExists, Gone, NotFound
from zipfs.ingest.spool import Spool
from zipfs.reading import Reader, open_content
from zipfs.reading.content import Content, SpooledContent
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import ingest_side, interrupted, tree
from zipfs.store.namespace.recent import recent_names
from zipfs.store.objects.values import INGEST_ROOT, Area, Inode, InodeId, Kind, State
from zipfs.store.store import Store
from zipfs.vfs.change import Alteration, Change, ClearMode, alter
from zipfs.vfs.lookup import Lookup
from zipfs.vfs.open_files import OpenFile
from zipfs.vfs.place import Place
from zipfs.vfs.trees import Name, NewInode, RenameFlags

_COPY_NBYTES: Final = 4 << 20


class IngestTree:
    """Changes below `ingest/`. Those that take a transaction run in one of the caller; all raise PathError."""

    def __init__(self, store: Store, spool: Spool, lookup: Lookup, reader: Reader, linger_s: float) -> None:
        self._store = store
        self._spool = spool
        self._lookup = lookup
        self._reader = reader
        self._linger_s = linger_s

    # Names and attributes

    def check_new(self, name: Name, kind: Kind) -> None:
        """Let everything be made."""

    def made(self, inode: Inode) -> None:
        """Take no notice: `make` says what it has touched."""

    def make(self, txn: Transaction, name: Name, new: NewInode) -> Change:
        inode = ingest_side.create(txn, name.parent_id, name.name, new.kind, new.mode, new.uid, new.gid, new.target)
        return Change(inode, touched={name.parent_id, *([inode.id] if inode.is_directory else [])})

    def link(self, txn: Transaction, inode_id: InodeId, name: Name) -> Change:
        inode = ingest_side.link(txn, txn.catalog.inode(inode_id), name.parent_id, name.name)
        beyond = txn.catalog.has_name_in(inode_id, under_ingest=False)
        return Change(inode, touched={name.parent_id}, beyond=beyond)

    def unlink(self, txn: Transaction, name: Name) -> Change:
        # What is sealed has names in the served tree, where its ctime is seen too.
        beyond = tree.require(txn.catalog, name.parent_id, name.name).area is not Area.PENDING
        gone = ingest_side.unlink(txn, name.parent_id, name.name)
        return Change(gone=[] if gone is None else [gone], touched={name.parent_id}, beyond=beyond)

    def rmdir(self, txn: Transaction, name: Name) -> Change:
        ingest_side.rmdir(txn, name.parent_id, name.name)
        return Change(touched={name.parent_id})

    def rename(self, txn: Transaction, old: Name, new: Name, flags: RenameFlags) -> Change:
        if flags.no_replace and txn.catalog.entry(new.parent_id, new.name) is not None:
            raise AlreadyExists(new.name)
        move = ingest_side.exchange if flags.exchange else ingest_side.rename
        gone = move(txn, old.parent_id, old.name, new.parent_id, new.name)
        touched = {old.parent_id, new.parent_id}
        for name in (old, new):
            touched.update(_directories_at(txn.catalog, name))
        return Change(gone=gone, touched=touched, beyond=True)  # what is served is moved along

    def alter(self, txn: Transaction, inode_id: InodeId, alteration: Alteration) -> Change:
        altered = alter(txn, inode_id, alteration)
        ingest_side.mark_changed(txn, altered)
        touched = txn.catalog.ingest_parents(inode_id) | ({inode_id} if altered.is_directory else set())
        return Change(altered, touched=touched, beyond=txn.catalog.has_name_in(inode_id, under_ingest=False))

    def directories_of(self, inode_id: InodeId) -> set[InodeId]:
        """Return the directories that are not quiet when something happens to an inode."""
        return self._store.catalog.ingest_parents(inode_id)

    def listed(self, changed: Iterable[InodeId], catalog: Catalog) -> set[bytes]:
        """Find the names that a listing of `ingest/` shows; `changed` are directories with changes of late."""
        now_ns = tree.now_ns()
        return recent_names(catalog, changed, now_ns - self._linger_s * 1e9, now_ns)

    def lists_all(self, where: Place) -> bool:
        """Return whether a listing of a directory shows whatever is in it."""
        return where.inode_id != INGEST_ROOT

    # Content

    def new_file(self, name: Name, new: NewInode) -> NewFile:
        """Return a file that is to be made and opened for writing."""
        return NewFile(self, self._spool, name, new)

    def is_open_content(self, where: Place) -> bool:
        """Return whether a file is in the spool and may still change. Raises as `Lookup.inode` does."""
        return where.under_ingest and self._lookup.inode(where).state is State.OPEN

    def open_spooled(self, where: Place, pid: int, *, writing: bool, fresh: bool) -> OpenFile | None:
        """Open a file in the spool; None for one that is sealed. Keep it from being sealed meanwhile."""
        inode = self._lookup.inode(where)
        if inode.state is not State.OPEN:
            return None
        return self.opened(where, inode, self._spool.acquire(inode.id, writing=writing, fresh=fresh), pid, writing)

    def opened(self, where: Place, inode: Inode, fd: int, pid: int, writing: bool) -> OpenFile:
        """Return an open file that takes over a use of the spool."""
        release = partial(self._spool.release, inode.id, writing=writing)
        content = SpooledContent(fd, str(self._store.spool_path(inode.id)), self._reader, release)
        return OpenFile(where, inode, content, pid, spooled=True, writing=writing)

    def has_notes(self, where: Place) -> bool:
        """Return whether a reason is kept why the model of a file was not sealed."""
        return self._store.catalog.has_failure(where.inode_id)

    def forget_notes(self, txn: Transaction, inode_id: InodeId) -> Change:
        """Drop the reasons that are kept of the model of a file that is about to be written to: they are old."""
        interrupted.forget(txn, inode_id)
        return Change()

    def set_ids_to_clear(self, inode: Inode, uid: int) -> ClearMode | None:
        """Return what an open that truncates does to the mode of a file.

        What anybody but root writes does not run as the owner of what it replaces. The kernel sees to that for writes
        and truncations, but not for the one that is part of an open.
        """
        set_ids = stat.S_ISUID | (stat.S_ISGID if inode.mode & stat.S_IXGRP else 0)
        return None if uid == 0 or not inode.mode & set_ids else ClearMode(set_ids)

    def check_supersedable(self, inode: Inode) -> None:
        """Raise Gone for what is sealed, unlinked and open: there is no name that could get another inode."""
        if not self._store.catalog.has_name(inode.id):
            raise Gone(f"inode {inode.id}")

    def open_to_copy(self, inode: Inode) -> Content:
        """Open sealed content that is to be written anew."""
        return open_content(self._store, self._reader, inode)

    def copy(self, content: Content, fresh_id: InodeId, mtime_ns: int) -> None:
        """Copy content into the spool file of an inode that has no row yet, and close it.

        A kill leaves a spool file that the next mount clears away. Any thread may call.
        """
        try:
            for offset in range(0, content.nbytes, _COPY_NBYTES):
                self._spool.write(fresh_id, offset, content.read(offset, _COPY_NBYTES))
            self._spool.set_mtime(fresh_id, mtime_ns)  # opening a file for writing is no change yet
        except BaseException:
            self.discard(fresh_id)
            raise
        finally:
            content.close()

    def expect(self, fresh_id: InodeId) -> None:
        """Keep a file from being sealed, empty, before it is opened."""
        self._spool.expect(fresh_id)

    def supersede(self, txn: Transaction, inode: Inode, fresh_id: InodeId) -> Change:
        """Give the names of sealed content to a new inode; `inode` is None if another open came first."""
        found = ingest_side.supersede(txn, inode, fresh_id)
        return Change() if found is None else Change(found[0], found[1], succeeds=True, beyond=True)

    def discard(self, inode_id: InodeId) -> None:
        """Delete a spool file that nobody needs. Any thread may call."""
        self._store.spool_path(inode_id).unlink(missing_ok=True)


class NewFile:
    """A file that is being made. `make` has it opened before it is there: what cannot be opened is not left behind."""

    def __init__(self, ingest: IngestTree, spool: Spool, name: Name, new: NewInode) -> None:
        self._ingest = ingest
        self._spool = spool
        self._name = name
        self._new = new
        self._acquired: dict[InodeId, int] = {}

    def make(self, txn: Transaction) -> Change:
        change = self._ingest.make(txn, self._name, self._new)
        assert change.inode is not None
        inode_id = change.inode.id
        self._acquired[inode_id] = self._spool.acquire(inode_id, writing=True, fresh=True)
        return change

    def opened(self, inode: Inode, pid: int) -> OpenFile:
        """Return the file that was made, once that is committed."""
        return self._ingest.opened(Place(inode.id, True), inode, self._acquired[inode.id], pid, writing=True)

    def abandon(self) -> None:
        """Let go of what was not committed."""
        for inode_id in self._acquired:
            self._spool.release(inode_id, writing=True)
            self._ingest.discard(inode_id)


def _directories_at(catalog: Catalog, name: Name) -> Iterable[InodeId]:
    """Find the directories at and below a name."""
    try:
        entry = tree.require(catalog, name.parent_id, name.name)
    except NotFound:
        return []
    found = tree.walk(catalog, catalog.inode(entry.inode_id))
    return [inode.id for _, inode in found if inode.is_directory]
