"""What the kernel asks below `ingest/`: the operations that write content, on top of `ServedOperations`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, RequestContext

from zipfs.host import bounded_time_ns
from zipfs.ingest.spool import Spool
from zipfs.metrics.counters import Counters
from zipfs.mount.attributes import describe
from zipfs.mount.changes import Changes
from zipfs.mount.errors import guarded
from zipfs.mount.handles import FileHandle, Unlinked
from zipfs.mount.logs import Log
from zipfs.mount.numbers import Place
from zipfs.mount.reading_operations import Stale
from zipfs.mount.served_operations import ServedOperations
from zipfs.mount.virtual import Virtual
from zipfs.reading import Content, open_content
from zipfs.reading.content import SpooledContent
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import ingest_side, interrupted, tree
from zipfs.store.namespace.recent import recent_names
from zipfs.store.objects.values import INGEST_ROOT, Inode, InodeId, Kind, State
from zipfs.store.store import Store

T = TypeVar("T")

_WRITING = os.O_WRONLY | os.O_RDWR
_COPY_NBYTES = 4 << 20


class IngestOperations(ServedOperations):
    """Both trees."""

    def __init__(
        self,
        store: Store,
        changes: Changes,
        virtual: Virtual,
        counters: Counters,
        spool: Spool,
        *,
        linger_s: float,
    ) -> None:
        super().__init__(store, changes, virtual, counters)
        self.spool = spool
        self._linger_s = linger_s

    def _touch(self, where: Place, *, itself: bool = False) -> None:
        """Something happened to an inode: the directories that hold it are not quiet."""
        if not where.under_ingest:
            return
        for directory in self.store.catalog.ingest_parents(where.inode_id):
            self.changes.touch(directory)
        if itself:
            self.changes.touch(where.inode_id)

    async def _names(self, where: Place) -> list[bytes]:
        names = await super()._names(where)
        if where.inode_id != INGEST_ROOT or not names:
            return names
        now_s = trio.current_time()
        changed = [one for one, at_s in self.changes.last_change_s.items() if at_s + self._linger_s > now_s]
        now_ns = tree.now_ns()
        listed = await self.changes.look(
            partial(recent_names, changed=changed, since_ns=now_ns - self._linger_s * 1e9, now_ns=now_ns)
        )
        return [name for name in names if name in listed]

    # Contents

    async def _open(self, where: Place, flags: int, ctx: RequestContext) -> FileInfo:
        writing = bool(flags & (_WRITING | os.O_TRUNC))
        if not where.under_ingest or (not writing and self._inode(where).state is not State.OPEN):
            return await super()._open(where, flags, ctx)
        if writing:
            await self._forget_notes(where)
        async with self.changes.lock:  # or it could be sealed between the look and the count of writers
            inode = self._inode(where)
            handle = None
            if inode.state is State.OPEN:
                handle = self._spool_handle(where, inode, ctx, writing=writing, fresh=bool(flags & os.O_TRUNC))
        if handle is None and not writing:
            return await super()._open(where, flags, ctx)  # sealed since the first look; to read it no copy is needed
        if handle is None:
            if not self.store.catalog.has_name(inode.id):
                raise Stale(f"inode {inode.id}")  # sealed, unlinked and open: there is no name that could get another
            await self._supersede(inode, copy=not flags & os.O_TRUNC)
            # The kernel looks the name up again and opens what it finds then.
            raise FUSEError(errno.ESTALE)
        if flags & os.O_TRUNC:
            await trio.to_thread.run_sync(self.spool.truncate, inode.id, 0)
            await self._drop_set_ids(where, inode, ctx)
        if writing:  # reading is no change
            self._touch(where)
        return FileInfo(fh=handle, keep_cache=True)

    async def _forget_notes(self, where: Place) -> None:
        """A file is about to be written to: why its model was not sealed before says nothing any more."""
        if self.store.catalog.has_failure(where.inode_id):
            self._touch(where)  # first, or what a look has found would be noted after all
            await self._ingest(lambda txn: interrupted.forget(txn, where.inode_id))

    async def _drop_set_ids(self, where: Place, inode: Inode, ctx: RequestContext) -> None:
        """What anybody but root writes does not run as the owner of what it replaces. The kernel sees to that for
        writes and truncations, but not for the one that is part of an open.
        """
        set_ids = stat.S_ISUID | (stat.S_ISGID if inode.mode & stat.S_IXGRP else 0)
        if ctx.uid == 0 or not inode.mode & set_ids:
            return

        def keep(unlinked: Unlinked) -> None:
            unlinked.inode = replace(unlinked.inode, mode=unlinked.inode.mode & ~set_ids)

        await self._alter(where, lambda _, found: replace(found, mode=found.mode & ~set_ids), keep)

    def _spool_handle(
        self, where: Place, inode: Inode, ctx: RequestContext, *, writing: bool, fresh: bool = False
    ) -> FileHandleT:
        fd = self.spool.acquire(where.inode_id, writing=writing, fresh=fresh)
        return self._handle_of(where, inode, fd, ctx, writing=writing)

    def _handle_of(self, where: Place, inode: Inode, fd: int, ctx: RequestContext, *, writing: bool) -> FileHandleT:
        """A handle that takes over a use of the spool."""
        release = partial(self.spool.release, inode.id, writing=writing)
        content = SpooledContent(fd, str(self.store.spool_path(inode.id)), self.reader, release)
        return self.handles.add(FileHandle(where, inode, content, ctx.pid, spooled=True, writing=writing))

    async def _supersede(self, inode: Inode, *, copy: bool) -> None:
        """Let the names below `ingest/` have a new inode that may be written, with the old content in it if `copy`."""

        fresh_id = await self.changes.run(lambda store: store.reserve_inode_id())
        if copy:
            content = open_content(self.store, self.reader, inode)
            await trio.to_thread.run_sync(self._copy, content, fresh_id, inode.mtime_ns)
        self.spool.expect(fresh_id)  # or it could be sealed, empty, before it is opened
        found = await self._ingest(lambda txn: ingest_side.supersede(txn, inode, fresh_id), kernel_knows=False)
        if found is None:
            # Another open of the same file came first: what the name leads to now is found by the next look.
            self.store.spool_path(fresh_id).unlink(missing_ok=True)

    def _copy(self, content: Content, fresh_id: InodeId, mtime_ns: int) -> None:
        """Before the new inode has a row: a kill leaves a spool file that the next mount clears away."""
        try:
            for offset in range(0, content.nbytes, _COPY_NBYTES):
                self.spool.write(fresh_id, offset, content.read(offset, _COPY_NBYTES))
            self.spool.set_mtime(fresh_id, mtime_ns)  # opening a file for writing is no change yet
        except BaseException:
            self.store.spool_path(fresh_id).unlink(missing_ok=True)
            raise
        finally:
            content.close()

    @guarded
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        handle = self.handles.file(fh)
        if not isinstance(handle, FileHandle):
            raise FUSEError(errno.EROFS)
        written = await trio.to_thread.run_sync(self.spool.write, handle.where.inode_id, off, buf)
        self._touch(handle.where)
        return written

    @guarded
    async def flush(self, fh: FileHandleT) -> None:
        handle = self.handles.file(fh)
        if isinstance(handle, FileHandle) and handle.spooled and handle.writing:
            self.spool.closed(handle.where.inode_id)

    def _release(self, handle: FileHandle) -> None:
        super()._release(handle)
        if handle.writing:
            self._touch(handle.where)

    async def _sync(self, handle: FileHandle | Log | bytes) -> None:
        if isinstance(handle, FileHandle) and handle.spooled:
            await trio.to_thread.run_sync(self.spool.sync, handle.where.inode_id)
        await super()._sync(handle)

    # Changes to the tree

    async def _ingest(self, work: Callable[[Transaction], T], *touched: InodeId, kernel_knows: bool = True) -> T:
        result = await self.changes.make(work, kernel_knows=kernel_knows)
        for directory in touched:
            self.changes.touch(directory)
        return result

    async def _create(
        self, parent: Place, name: bytes, mode: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        if not parent.under_ingest:
            return await super()._create(parent, name, mode, ctx)
        acquired: list[tuple[InodeId, int]] = []

        def make(txn: Transaction) -> Inode:
            inode = ingest_side.create(txn, parent.inode_id, name, Kind.FILE, mode & ~ctx.umask, ctx.uid, ctx.gid)
            # Before the commit: a file that cannot be opened is not to be left behind.
            acquired.append((inode.id, self.spool.acquire(inode.id, writing=True, fresh=True)))
            return inode

        try:
            inode = await self._ingest(make, parent.inode_id)
        except BaseException:
            for inode_id, _ in acquired:
                self.spool.release(inode_id, writing=True)
                self.store.spool_path(inode_id).unlink(missing_ok=True)
            raise
        where = Place(inode.id, True)
        handle = self._handle_of(where, inode, acquired[0][1], ctx, writing=True)
        return FileInfo(fh=handle, keep_cache=True), describe(self.store, where, inode, 1)

    async def _make(
        self, parent: Place, name: bytes, kind: Kind, mode: int, ctx: RequestContext, target: bytes | None = None
    ) -> EntryAttributes:
        if not parent.under_ingest:
            return await super()._make(parent, name, kind, mode, ctx, target)
        umask = 0 if kind is Kind.SYMLINK else ctx.umask
        inode = await self._new(parent, name, kind, mode & ~umask, ctx, target)
        if inode.is_directory:
            self.changes.touch(inode.id)
        return describe(self.store, Place(inode.id, True), inode, 1)

    async def _new(
        self, parent: Place, name: bytes, kind: Kind, mode: int, ctx: RequestContext, target: bytes | None = None
    ) -> Inode:
        return await self._ingest(
            lambda txn: ingest_side.create(txn, parent.inode_id, name, kind, mode, ctx.uid, ctx.gid, target),
            parent.inode_id,
        )

    async def _link(self, where: Place, parent: Place, name: bytes) -> EntryAttributes:
        if not parent.under_ingest:
            return await super()._link(where, parent, name)
        beside = self.store.catalog.has_name_in(where.inode_id, under_ingest=False)
        await self._ingest(
            lambda txn: ingest_side.link(txn, txn.catalog.inode(where.inode_id), parent.inode_id, name),
            parent.inode_id,
            kernel_knows=not beside,
        )
        return self._describe(where)

    def _gone(self, parent: Place, gone: Sequence[Inode]) -> None:
        super()._gone(parent, gone)
        if parent.under_ingest:
            self.changes.touch(parent.inode_id)

    def _drop_name(self, txn: Transaction, parent: Place, name: bytes) -> Inode | None:
        return (
            ingest_side.unlink(txn, parent.inode_id, name)
            if parent.under_ingest
            else super()._drop_name(txn, parent, name)
        )

    def _drop_directory(self, txn: Transaction, parent: Place, name: bytes) -> None:
        if parent.under_ingest:
            ingest_side.rmdir(txn, parent.inode_id, name)
        else:
            super()._drop_directory(txn, parent, name)

    async def _rename(self, old: Place, name: bytes, new: Place, new_name: bytes, flags: int) -> None:
        if not old.under_ingest:
            return await super()._rename(old, name, new, new_name, flags)

        def move(txn: Transaction) -> list[Inode]:
            if flags & pyfuse3.RENAME_EXCHANGE:
                return ingest_side.exchange(txn, old.inode_id, name, new.inode_id, new_name)
            if flags & pyfuse3.RENAME_NOREPLACE and txn.catalog.entry(new.inode_id, new_name) is not None:
                raise FUSEError(errno.EEXIST)
            return ingest_side.rename(txn, old.inode_id, name, new.inode_id, new_name)

        # A move of something sealed moves it in the served tree too, which the kernel cannot know.
        gone = await self._ingest(move, old.inode_id, new.inode_id, kernel_knows=False)
        self._gone(new, gone)
        for parent, leaf in ((old, name), (new, new_name)):
            moved = self.store.catalog.entry(parent.inode_id, leaf)
            if moved is None:
                continue
            for path in tree.walk(self.store.catalog, self.store.catalog.inode(moved.inode_id)):
                if path[1].is_directory:
                    self.changes.touch(path[1].id)
        return None

    async def _setattr(
        self, where: Place, attr: EntryAttributes, fields: pyfuse3.SetattrFields, ctx: RequestContext
    ) -> EntryAttributes:
        if not where.under_ingest:
            return await super()._setattr(where, attr, fields, ctx)
        if fields.update_size:
            await self._forget_notes(where)
        async with self.changes.lock:  # no seal meanwhile
            inode = self._inode(where)
            if fields.update_size and inode.state is State.OPEN:
                await trio.to_thread.run_sync(self.spool.truncate, inode.id, attr.st_size)
            if fields.update_mtime and inode.state is State.OPEN:
                await trio.to_thread.run_sync(self.spool.set_mtime, inode.id, bounded_time_ns(attr.st_mtime_ns))
        if fields.update_size:
            if inode.state is not State.OPEN:
                await self._supersede(inode, copy=attr.st_size > 0)
                raise FUSEError(errno.ESTALE)
            self._touch(where)
        return await super()._setattr(where, attr, fields, ctx)

    def _altered(self, txn: Transaction, where: Place, inode: Inode) -> None:
        if where.under_ingest:
            ingest_side.mark_changed(txn, inode)
