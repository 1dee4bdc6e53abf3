"""What the kernel asks to have written: opening, creating, writing and syncing files, in both trees."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import partial

import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import Gone, NotFound
from zipfs.mount import device
from zipfs.mount.attributes import describe
from zipfs.mount.errors import guarded
from zipfs.mount.handles import Readable
from zipfs.mount.tree_operations import TreeOperations
from zipfs.store.objects.values import Inode, Kind, State
from zipfs.vfs.change import SetAttributes
from zipfs.vfs.open_files import OpenFile
from zipfs.vfs.place import Place
from zipfs.vfs.set_ids import lost_set_ids
from zipfs.vfs.trees import NewInode

_TOUCH_EVERY_S = 0.05
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


class WritingOperations(TreeOperations):
    """Everything that a mount can do."""

    def _touch(self, where: Place) -> None:
        """Note that something has happened to a file: it is not quiet, nor is its model below `ingest/`."""
        if where.under_ingest:
            self.change_log.touch(self.ingest.directories_of(where.inode_id))
        else:
            self.change_log.touch_written([where.inode_id])

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
        if writing:
            self._tree(where).check_writable(where)
            await self._forget_notes(where)
        file = await self._open_spooled(where, ctx.pid, writing=writing, truncating=truncating, leaving=truncating)
        if file is None:  # to read it, what is finished need not be copied
            return await super()._open(where, flags, ctx)
        try:
            if truncating:
                await self._truncate(file.inode, 0)
                # Other truncations ask for this by themselves; the one that is part of an open does not.
                lost = 0 if ctx.uid == 0 else lost_set_ids(file.inode, ctx.uid, ctx.gid, ctx.pid)
                if lost:
                    await self._alter(where, SetAttributes(clearing=lost))
        except BaseException:
            file.content.close()
            raise
        if writing:  # reading is no change
            self._touch(where)
        return FileInfo(fh=self.handles.add(file), keep_cache=True)

    async def _open_spooled(
        self, where: Place, pid: int, *, writing: bool, truncating: bool = False, leaving: bool = False
    ) -> OpenFile | None:
        """Open a file in the spool. One that is finished becomes open again if it is for `writing`; None otherwise.

        `leaving`: what is truncated as it is opened is left to those who read it.
        """
        while writing or self.files.is_open_content(where):
            async with self.change_log.lock:  # or it could be sealed between the look and the count of writers
                file = self.files.open_spooled(where, pid, writing=writing, fresh=truncating)
            if file is not None:
                return file
            if writing:
                await self._reopen(where, emptied=truncating, leaving=leaving)
        return None

    async def _forget_notes(self, where: Place) -> None:
        if where.under_ingest and self.ingest.has_notes(where):
            self._touch(where)  # first, or what a look has found would be noted after all
            await self.change_log.make(lambda txn: self.ingest.forget_notes(txn, where.inode_id))

    async def _reopen(self, where: Place, *, emptied: bool, leaving: bool) -> None:
        """Have finished content be open again. Look anew afterwards: another open may have been first.

        Raises Gone where the names lead to a new inode: the kernel looks the name up again, and opens what it finds.
        """
        number = await self.change_log.run(lambda store: store.reserve_inode_id())
        inode = self.names.inode(where)
        if inode.state is State.OPEN:
            return
        reopening = self.files.reopening(where, inode, number, emptied=emptied, leaving=leaving)
        try:
            await trio.to_thread.run_sync(reopening.prepare)
            self.spool.expect(number)
            if reopening.apart:
                self.open_files.remember_inode(self.store.catalog, inode.id)
            change = await self.change_log.make(reopening.make, removes=emptied, fault="reopen")
        except BaseException:
            await trio.to_thread.run_sync(reopening.abandon)
            raise
        finally:
            reopening.close()
        if change.inode is None:
            await trio.to_thread.run_sync(reopening.abandon)
        elif change.inode.id != where.inode_id:
            raise Gone(f"inode {inode.id}")

    @guarded
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        parent = self._writable(parent_inode)
        new = NewInode(Kind.FILE, mode & ~ctx.umask, ctx.uid, ctx.gid)
        file = await self._create(parent, name, new, ctx.pid)
        return FileInfo(fh=self.handles.add(file), keep_cache=True), describe(self.store, file.where, file.inode, 1)

    # Writing

    @guarded
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        data = device.written(fh, off, buf)
        handle = self.handles.file(fh)
        if not isinstance(handle, OpenFile):
            raise FUSEError(errno.EROFS)
        if not (handle.writing and self.spool.write_at_once(handle.inode, off, data)):
            await trio.to_thread.run_sync(self.spool.write, handle.inode, off, data)
        now_s = trio.current_time()
        if now_s >= handle.touched_s + _TOUCH_EVERY_S:  # what is open for writing is not quiet anyway
            handle.touched_s = now_s
            self._touch(handle.where)
        return len(data)

    @guarded
    async def flush(self, fh: FileHandleT) -> None:
        handle = self.handles.file(fh)
        if isinstance(handle, OpenFile) and handle.spooled and handle.writing:
            self.spool.closed(handle.inode)

    def _release(self, handle: OpenFile) -> None:
        super()._release(handle)
        if handle.writing:
            self._touch(handle.where)

    async def _sync(self, handle: Readable) -> None:
        if isinstance(handle, OpenFile) and handle.spooled:
            await trio.to_thread.run_sync(self.spool.sync, handle.inode)
        await super()._sync(handle)

    async def _truncate(self, inode: Inode, nbytes: int) -> None:
        """Set the size of a file that is open for writing."""
        shown_nbytes = await trio.to_thread.run_sync(self.spool.truncate, inode, nbytes)
        if shown_nbytes is None:
            return
        clip = partial(self.files.clip, inode_id=inode.id, nbytes=shown_nbytes)
        with suppress(NotFound):  # unlinked: nobody will open it anew
            await self.change_log.make(clip, removes=True, fault="clip")
        self.spool.clip_recorded(inode, shown_nbytes)

    async def _set_size_and_mtime(self, where: Place, nbytes: int | None, mtime_ns: int | None, pid: int) -> None:
        if nbytes is not None:
            self._tree(where).check_writable(where)
            await self._forget_notes(where)
            file = await self._open_spooled(where, pid, writing=True, truncating=not nbytes)
            assert file is not None
            try:
                await self._truncate(file.inode, nbytes)
            finally:
                file.content.close()
            self._touch(where)
        if mtime_ns is not None:
            async with self.change_log.lock:  # no seal meanwhile
                inode = self.names.inode(where)
                if inode.state is State.OPEN:
                    await trio.to_thread.run_sync(self.spool.set_mtime, inode, mtime_ns)
