"""What the kernel asks to have written: opening, creating, writing and syncing files below `ingest/`."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import NoReturn

import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import Gone
from zipfs.mount.attributes import describe
from zipfs.mount.errors import guarded
from zipfs.mount.handles import Readable
from zipfs.mount.tree_operations import TreeOperations
from zipfs.store.objects.values import Inode, InodeId, Kind, State
from zipfs.vfs.open_files import OpenFile
from zipfs.vfs.place import Place
from zipfs.vfs.trees import Name, NewInode

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


class IngestOperations(TreeOperations):
    """Everything that a mount can do."""

    def _touch(self, inode_id: InodeId) -> None:
        """Note that the directories which hold an inode are not quiet."""
        self.change_log.touch(self.ingest.directories_of(inode_id))

    async def _names(self, where: Place) -> list[bytes]:
        names = await super()._names(where)
        if self.ingest.lists_all(where) or not names:
            return names
        changed = self.change_log.changed_since(trio.current_time() - self.linger_s)
        listed = await self.change_log.read_catalog(partial(self.ingest.listed, changed))
        return [name for name in names if name in listed]

    # Opening

    async def _open(self, where: Place, flags: int, ctx: RequestContext) -> FileInfo:
        writing, truncating = bool(flags & _WRITING), bool(flags & os.O_TRUNC)
        if not where.under_ingest or (not writing and not self.ingest.is_open_content(where)):
            return await super()._open(where, flags, ctx)
        if writing:
            await self._forget_notes(where)
        async with self.change_log.lock:  # or it could be sealed between the look and the count of writers
            file = self.ingest.open_spooled(where, ctx.pid, writing=writing, fresh=truncating)
            handle = None if file is None else self.handles.add(file)
        if file is None or handle is None:
            if not writing:  # sealed since the first look; to read it no copy is needed
                return await super()._open(where, flags, ctx)
            await self._supersede(self.names.inode(where), copy=not truncating)
        if truncating:
            await trio.to_thread.run_sync(self.spool.truncate, file.inode.id, 0)
            clearing = self.ingest.set_ids_to_clear(file.inode, ctx.uid)
            if clearing is not None:
                await self._alter(where, clearing)
        if writing:  # reading is no change
            self._touch(where.inode_id)
        return FileInfo(fh=handle, keep_cache=True)

    async def _forget_notes(self, where: Place) -> None:
        if self.ingest.has_notes(where):
            self._touch(where.inode_id)  # first, or what a look has found would be noted after all
            await self.change_log.make(lambda txn: self.ingest.forget_notes(txn, where.inode_id))

    async def _supersede(self, inode: Inode, *, copy: bool) -> NoReturn:
        """Let the names below `ingest/` have a new inode that may be written.

        Raises Gone: the kernel looks the name up again, and opens what it finds then.
        """
        self.ingest.check_supersedable(inode)
        fresh_id = await self.change_log.run(lambda store: store.reserve_inode_id())
        if copy:
            content = self.ingest.open_to_copy(inode)
            await trio.to_thread.run_sync(self.ingest.copy, content, fresh_id, inode.mtime_ns)
        self.ingest.expect(fresh_id)
        change = await self.change_log.make(lambda txn: self.ingest.supersede(txn, inode, fresh_id))
        if change.inode is None:
            # Another open of the same file came first: what the name leads to now is found by the next look.
            await trio.to_thread.run_sync(self.ingest.discard, fresh_id)
        raise Gone(f"inode {inode.id}")

    @guarded
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        parent = self._writable(parent_inode)
        at = Name(parent.inode_id, name)
        self._tree(parent).check_new(at, Kind.FILE)
        new = self.ingest.new_file(at, NewInode(Kind.FILE, mode & ~ctx.umask, ctx.uid, ctx.gid))
        try:
            inode = (await self.change_log.make(new.make)).inode
            assert inode is not None
        except BaseException:
            new.abandon()
            raise
        file = new.opened(inode, ctx.pid)
        return FileInfo(fh=self.handles.add(file), keep_cache=True), describe(self.store, file.where, inode, 1)

    # Writing

    @guarded
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        handle = self.handles.file(fh)
        if not isinstance(handle, OpenFile):
            raise FUSEError(errno.EROFS)
        written = await trio.to_thread.run_sync(self.spool.write, handle.where.inode_id, off, buf)
        self._touch(handle.where.inode_id)
        return written

    @guarded
    async def flush(self, fh: FileHandleT) -> None:
        handle = self.handles.file(fh)
        if isinstance(handle, OpenFile) and handle.spooled and handle.writing:
            self.spool.closed(handle.where.inode_id)

    def _release(self, handle: OpenFile) -> None:
        super()._release(handle)
        if handle.writing:
            self._touch(handle.where.inode_id)

    async def _sync(self, handle: Readable) -> None:
        if isinstance(handle, OpenFile) and handle.spooled:
            await trio.to_thread.run_sync(self.spool.sync, handle.where.inode_id)
        await super()._sync(handle)

    async def _set_size_and_mtime(self, where: Place, nbytes: int | None, mtime_ns: int | None) -> None:
        if not where.under_ingest:
            return await super()._set_size_and_mtime(where, nbytes, mtime_ns)
        if nbytes is not None:
            await self._forget_notes(where)
        async with self.change_log.lock:  # no seal meanwhile
            inode = self.names.inode(where)
            if inode.state is State.OPEN:
                if nbytes is not None:
                    await trio.to_thread.run_sync(self.spool.truncate, inode.id, nbytes)
                if mtime_ns is not None:
                    await trio.to_thread.run_sync(self.spool.set_mtime, inode.id, mtime_ns)
        if nbytes is not None:
            if inode.state is not State.OPEN:
                await self._supersede(inode, copy=nbytes > 0)
            self._touch(where.inode_id)
        return None
