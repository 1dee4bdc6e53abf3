"""What the kernel asks to have changed of names and attributes, in the served tree and below `ingest/`."""

from __future__ import annotations

import errno
import stat
from abc import abstractmethod
from functools import partial
from typing import ClassVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import NotFound
from zipfs.host import bounded_time_ns
from zipfs.ingest.spool import Spool
from zipfs.metrics.counters import Counters
from zipfs.mount.attributes import describe
from zipfs.mount.change_log import ChangeLog
from zipfs.mount.errors import guarded
from zipfs.mount.handles import Readable
from zipfs.mount.numbers import place
from zipfs.mount.reading_operations import ReadingOperations
from zipfs.mount.virtual import Virtual
from zipfs.store.objects.values import Kind
from zipfs.store.store import Store
from zipfs.vfs.change import Alteration, DropXattr, PutXattr, SetAttributes, keep
from zipfs.vfs.ingest_tree import IngestTree
from zipfs.vfs.open_files import OpenFile
from zipfs.vfs.place import Place
from zipfs.vfs.refused_copies import RefusedCopies
from zipfs.vfs.served_tree import ServedTree
from zipfs.vfs.set_ids import lost_set_ids
from zipfs.vfs.trees import Name, NewInode, RenameFlags, Tree, same_tree
from zipfs.vfs.writable_files import WritableFiles

_RENAME_FLAGS = pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE


class TreeOperations(ReadingOperations):
    """Both trees, of a mount that may change them."""

    shows_ingest: ClassVar[bool] = True
    sees_all_writes: ClassVar[bool] = True

    def __init__(
        self,
        store: Store,
        change_log: ChangeLog,
        virtual: Virtual,
        counters: Counters,
        spool: Spool,
        *,
        linger_s: float,
        takes_writes: bool = True,
    ) -> None:
        """With `takes_writes` off, content is written below `ingest/` only."""
        super().__init__(store, virtual, counters)
        self.change_log = change_log
        self.spool = spool
        self.linger_s = linger_s
        self.refused_copies = None if takes_writes else RefusedCopies()
        self.served = ServedTree(self.refused_copies)
        self.ingest = IngestTree(store, linger_s)
        self.files = WritableFiles(store, spool, self.names, self.reader, self.open_files)

    def _tree(self, where: Place) -> Tree:
        return self.ingest if where.under_ingest else self.served

    def _writable(self, inode: InodeT) -> Place:
        if self.virtual.owns(inode):
            raise FUSEError(errno.EROFS)
        return place(inode)

    async def _sync(self, handle: Readable) -> None:
        await self.change_log.run(lambda store: store.sync())

    @guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self.change_log.run(lambda store: store.sync())

    # Attributes

    @guarded
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._alter(self._writable(inode), PutXattr(name, value))

    @guarded
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._alter(self._writable(inode), DropXattr(name))

    async def _alter(self, where: Place, alteration: Alteration) -> None:
        """Change attributes of an inode, also of one that is unlinked and still open."""
        alter = self._tree(where).alter
        try:
            await self.change_log.make(lambda txn: alter(txn, where.inode_id, alteration))
        except NotFound as error:
            unlinked = self.open_files.unlinked(where.inode_id)
            if unlinked is None:
                raise self.names.missing(where) from error
            keep(unlinked, alteration)

    @guarded
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        where = self._writable(inode)
        if fields.update_size or fields.update_mtime:
            await self._set_size_and_mtime(
                where,
                attr.st_size if fields.update_size else None,
                bounded_time_ns(attr.st_mtime_ns) if fields.update_mtime else None,
                ctx.pid,
            )
        alteration = attributes_to_set(attr, fields, self._lost_set_ids(where, fields, ctx))
        if alteration and not self._tells_of_writes(where, fields):
            await self._alter(where, alteration)
        return describe(self.store, where, *self.names.stat(where))

    def _lost_set_ids(self, where: Place, fields: pyfuse3.SetattrFields, ctx: RequestContext) -> int:
        """Return what a change of owner or size takes from a mode. A request that names nothing is about that alone."""
        if fields.update_mode:
            return 0
        # A kernel that keeps times itself names the time of change with all that moves it.
        names_nothing = not (fields.update_mtime or fields.update_atime or fields.update_size)
        is_given_away = fields.update_uid or fields.update_gid or names_nothing
        if not is_given_away and not (fields.update_size and ctx.uid != 0):
            return 0
        return lost_set_ids(self.names.stat(where)[0], ctx.uid, ctx.gid, ctx.pid)

    def _tells_of_writes(self, where: Place, fields: pyfuse3.SetattrFields) -> bool:
        """Return whether the kernel tells when it has last written to a file of which it keeps the times itself.

        The spool file has that then: a change of the catalog for each write-back would be in the way of writes.
        """
        names_more = fields.update_mode or fields.update_uid or fields.update_gid or fields.update_size
        are_times_kept = self.enable_writeback_cache and fields.update_mtime and fields.update_ctime
        return are_times_kept and not (names_more or fields.update_atime) and self.files.is_open_content(where)

    @abstractmethod
    async def _set_size_and_mtime(self, where: Place, nbytes: int | None, mtime_ns: int | None, pid: int) -> None:
        """Change what a spool file has, too."""

    # Names

    @guarded
    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        return await self._make(parent_inode, name, NewInode(Kind.DIRECTORY, mode & ~ctx.umask, ctx.uid, ctx.gid))

    @guarded
    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return await self._make(parent_inode, name, NewInode(Kind.SYMLINK, 0o777, ctx.uid, ctx.gid, target))

    @guarded
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)  # there are no devices here, and no pipes
        own_mode = stat.S_IMODE(mode) & ~ctx.umask
        new = NewInode(Kind.FILE, own_mode, ctx.uid, ctx.gid)
        file = await self._create(self._writable(parent_inode), name, new, ctx.pid)
        file.content.close()
        return describe(self.store, file.where, file.inode, 1)

    async def _create(self, parent: Place, name: bytes, new: NewInode, pid: int) -> OpenFile:
        """Make a file and open it for writing."""
        tree, at = self._tree(parent), Name(parent.inode_id, name)
        tree.check_new(at, new.kind)
        made = self.files.new_file(tree, parent, at, new)
        try:
            await self.change_log.make(made.make)
        except BaseException:
            made.abandon()
            raise
        return made.opened(pid)

    async def _make(self, parent_inode: InodeT, leaf: bytes, new: NewInode) -> EntryAttributes:
        parent = self._writable(parent_inode)
        tree, name = self._tree(parent), Name(parent.inode_id, leaf)
        tree.check_new(name, new.kind)
        inode = (await self.change_log.make(lambda txn: tree.make(txn, name, new))).inode
        assert inode is not None
        tree.made(inode)
        return describe(self.store, parent.beside(inode.id), inode, 1)

    @guarded
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        where, parent = self._writable(inode), self._writable(new_parent_inode)
        same_tree(where, parent)
        name = Name(parent.inode_id, new_name)
        await self.change_log.make(lambda txn: self._tree(parent).link(txn, where.inode_id, name))
        return self._describe(where)

    @guarded
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self._writable(parent_inode)
        self.open_files.remember(self.store.catalog, parent.inode_id, name)
        unlink = partial(self._tree(parent).unlink, name=Name(parent.inode_id, name))
        change = await self.change_log.make(unlink, removes=True, fault="delete")
        self.names.removed(change.gone)
        if self.store.reserve.spent:
            await trio.to_thread.run_sync(self.store.reserve.fill)

    @guarded
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self._writable(parent_inode)
        self.open_files.remember(self.store.catalog, parent.inode_id, name)
        await self.change_log.make(partial(self._tree(parent).rmdir, name=Name(parent.inode_id, name)), removes=True)

    @guarded
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        if flags & ~_RENAME_FLAGS:
            raise FUSEError(errno.EINVAL)
        old, new = self._writable(parent_inode_old), self._writable(parent_inode_new)
        same_tree(old, new)
        self.open_files.remember(self.store.catalog, new.inode_id, name_new)
        names = Name(old.inode_id, name_old), Name(new.inode_id, name_new)
        how = RenameFlags(bool(flags & pyfuse3.RENAME_EXCHANGE), bool(flags & pyfuse3.RENAME_NOREPLACE))
        await self.change_log.make(lambda txn: self._tree(old).rename(txn, *names, how))


def attributes_to_set(attr: EntryAttributes, fields: pyfuse3.SetattrFields, clearing: int) -> SetAttributes:
    """Return what setattr(2) asks to change, except the size; `clearing` are bits that the mode loses with it."""
    return SetAttributes(
        attr.st_mode if fields.update_mode else None,
        attr.st_uid if fields.update_uid else None,
        attr.st_gid if fields.update_gid else None,
        bounded_time_ns(attr.st_mtime_ns) if fields.update_mtime else None,
        bounded_time_ns(attr.st_atime_ns) if fields.update_atime else None,
        clearing,
    )
