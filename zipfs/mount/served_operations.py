"""What changes the served tree: names, attributes, extended attributes; its content cannot be changed.

Changes go through `Changes`. What happens below `ingest/` is in `IngestOperations`, the subclass that a mount uses.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import NoAttribute, NotFound, ReadOnly
from zipfs.host import bounded_time_ns
from zipfs.metrics.counters import Counters
from zipfs.mount.changes import Changes
from zipfs.mount.errors import guarded
from zipfs.mount.handles import FileHandle, Unlinked
from zipfs.mount.logs import Log
from zipfs.mount.numbers import Place, place
from zipfs.mount.reading_operations import ReadingOperations
from zipfs.mount.refusals import Refusals
from zipfs.mount.virtual import Virtual
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance.remove import free_spool
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import ROOT, Area, Entry, Inode, Kind
from zipfs.store.store import Store
from zipfs.vfs import xattrs

T = TypeVar("T")

_REMOVED = 1024
"""Inodes that are remembered after their removal; requests that were under way with it are answered within moments."""
_RENAME_FLAGS = pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE


class ServedOperations(ReadingOperations):
    """The served tree of a mount that may change it."""

    shows_ingest: ClassVar[bool] = True

    def __init__(self, store: Store, changes: Changes, virtual: Virtual, counters: Counters) -> None:
        super().__init__(store, virtual, counters)
        self.changes = changes
        self.refusals = Refusals(changes)

    async def _sync(self, handle: FileHandle | Log | bytes) -> None:
        await self.changes.run(lambda store: store.sync())

    @guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self.changes.run(lambda store: store.sync())

    @guarded
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        where = self._writable(inode)
        if name.startswith(xattrs.PREFIX):
            raise FUSEError(errno.EPERM)
        if not name.startswith(b"user."):
            # Capabilities, ACLs and labels mean nothing here, and kept without effect they would mislead.
            raise FUSEError(errno.EOPNOTSUPP)

        def put(txn: Transaction, inode: Inode) -> Inode:
            txn.put_xattr(inode.id, name, value)
            return inode

        def keep(unlinked: Unlinked) -> None:
            unlinked.xattrs[name] = value

        await self._alter(where, put, keep)

    @guarded
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        where = self._writable(inode)

        def drop(txn: Transaction, found: Inode) -> Inode:
            if name not in txn.catalog.xattrs(found.id):
                raise NoAttribute(f"inode {inode}", name)
            txn.drop_xattr(found.id, name)
            return found

        def forget(unlinked: Unlinked) -> None:
            if unlinked.xattrs.pop(name, None) is None:
                raise NoAttribute(f"inode {inode}", name)

        await self._alter(where, drop, forget)

    # Changes to the tree

    def _writable(self, inode: InodeT) -> Place:
        if self.virtual.owns(inode):
            raise FUSEError(errno.EROFS)
        return place(inode)

    async def _change(self, work: Callable[[Transaction], T], *, kernel_knows: bool = True) -> T:
        return await self.changes.make(work, kernel_knows=kernel_knows)

    async def _alter(
        self, where: Place, change: Callable[[Transaction, Inode], Inode], keep: Callable[[Unlinked], None]
    ) -> None:
        """Change attributes of an inode, which moves its ctime; of one that is unlinked and still open, by `keep`.

        Raises NotFound for one that is gone.
        """

        def work(txn: Transaction) -> Inode:
            try:
                inode = txn.catalog.inode(where.inode_id)
            except NotFound as error:
                raise self._missing(where) from error
            altered = replace(change(txn, inode), ctime_ns=tree.now_ns())
            txn.put_inode(altered)
            self._altered(txn, where, altered)
            return altered

        # Of a file that is on both sides the kernel knows but the number that it asked by.
        beside = self.store.catalog.has_name_in(where.inode_id, under_ingest=not where.under_ingest)
        try:
            altered = await self._change(work, kernel_knows=not beside)
        except NotFound:
            unlinked = self.handles.unlinked(where.inode_id)
            if unlinked is None:
                raise
            keep(unlinked)
            unlinked.inode = replace(unlinked.inode, ctime_ns=tree.now_ns())
            return
        self._touch(where, itself=altered.is_directory)

    def _altered(self, txn: Transaction, where: Place, inode: Inode) -> None:
        """Called in the transaction that changes attributes."""

    def _touch(self, where: Place, *, itself: bool = False) -> None:
        """Something happened to an inode; `itself`: to a directory."""

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
        return await self._setattr(where, attr, fields, ctx)

    async def _setattr(
        self, where: Place, attr: EntryAttributes, fields: pyfuse3.SetattrFields, ctx: RequestContext
    ) -> EntryAttributes:
        if fields.update_size and not where.under_ingest:
            raise ReadOnly(f"inode {where.inode_id}")
        if fields.update_mode or fields.update_uid or fields.update_gid or fields.update_mtime or fields.update_atime:

            def keep(unlinked: Unlinked) -> None:
                unlinked.inode = with_attributes(unlinked.inode, attr, fields)

            await self._alter(where, lambda _, inode: with_attributes(inode, attr, fields), keep)
        return self._getattr(where)

    @guarded
    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        return await self._make(self._writable(parent_inode), name, Kind.DIRECTORY, mode, ctx)

    @guarded
    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return await self._make(self._writable(parent_inode), name, Kind.SYMLINK, 0o777, ctx, target)

    @guarded
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)  # there are no devices here, and no pipes
        return await self._make(self._writable(parent_inode), name, Kind.FILE, stat.S_IMODE(mode), ctx)

    async def _make(
        self, parent: Place, name: bytes, kind: Kind, mode: int, ctx: RequestContext, target: bytes | None = None
    ) -> EntryAttributes:
        if kind is Kind.FILE:
            self.refusals.refuse(parent.inode_id, name)
            raise ReadOnly(name)

        def make(txn: Transaction) -> Inode:
            own_mode = mode & ~ctx.umask
            return tree.make(txn, parent.inode_id, name, kind, Event.MAKE_SERVED, own_mode, ctx.uid, ctx.gid, target)

        inode = await self._change(make)
        if inode.is_directory:
            self.refusals.made(inode.id)
        return self._describe(parent.beside(inode.id))

    @guarded
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        return await self._create(self._writable(parent_inode), name, mode, ctx)

    async def _create(
        self, parent: Place, name: bytes, mode: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        self.refusals.refuse(parent.inode_id, name)
        raise ReadOnly(name)

    @guarded
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        where, parent = self._writable(inode), self._writable(new_parent_inode)
        if where.under_ingest != parent.under_ingest:
            raise FUSEError(errno.EXDEV)
        return await self._link(where, parent, new_name)

    async def _link(self, where: Place, parent: Place, name: bytes) -> EntryAttributes:
        beside = self.store.catalog.has_name_in(where.inode_id, under_ingest=True)
        await self._change(
            lambda txn: tree.link(txn, parent.inode_id, name, txn.catalog.inode(where.inode_id), Event.SERVE),
            kernel_knows=not beside,
        )
        return self._describe(where)

    @guarded
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self._writable(parent_inode)
        entry = self._remember_name(parent, name)

        # What is sealed has names in the served tree, where its ctime is seen too.
        kernel_knows = parent.under_ingest and (entry is None or entry.area is Area.PENDING)
        gone = await self.changes.make(
            lambda txn: self._drop_name(txn, parent, name), kernel_knows=kernel_knows, removes=True, fault="delete"
        )
        if gone is not None:
            self.removed[gone.id] = None
            if len(self.removed) > _REMOVED:
                del self.removed[next(iter(self.removed))]
        self._gone(parent, [gone] if gone is not None else [])
        if self.store.reserve.spent:
            await trio.to_thread.run_sync(self.store.reserve.fill)

    def _drop_name(self, txn: Transaction, parent: Place, name: bytes) -> Inode | None:
        """Remove the name of a file or symlink; returns the inode if that was its last name."""
        tree.forget_lingering(txn, parent.inode_id, name)
        return tree.unlink(txn, parent.inode_id, name)

    def _remember_name(self, parent: Place, name: bytes) -> Entry | None:
        """Keep what a name leads to, which is about to vanish, for whoever has it open. Call before the change."""
        entry = self.store.catalog.entry(parent.inode_id, name)
        if entry is not None and self.handles.is_open(entry.inode_id):
            inode = self.store.catalog.inode(entry.inode_id)
            self.handles.keep(inode, self.store.catalog.xattrs(inode.id))
        return entry

    def _gone(self, parent: Place, gone: Sequence[Inode]) -> None:
        free_spool(self.store, gone)

    @guarded
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self._writable(parent_inode)
        if parent.inode_id == ROOT and name in tree.RESERVED_AT_ROOT:
            raise FUSEError(errno.EBUSY)
        self._remember_name(parent, name)

        await self.changes.make(
            lambda txn: self._drop_directory(txn, parent, name), kernel_knows=parent.under_ingest, removes=True
        )
        self._gone(parent, [])

    def _drop_directory(self, txn: Transaction, parent: Place, name: bytes) -> None:
        tree.rmdir(txn, parent.inode_id, name)
        tree.forget_lingering_directory(txn, tree.path_of(txn.catalog, parent.inode_id) + b"/" + name)

    @guarded
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        if flags & ~_RENAME_FLAGS:
            raise FUSEError(errno.EINVAL)
        old, new = self._writable(parent_inode_old), self._writable(parent_inode_new)
        if old.under_ingest != new.under_ingest:
            raise FUSEError(errno.EXDEV)
        if old.inode_id == ROOT and name_old in tree.RESERVED_AT_ROOT:
            raise FUSEError(errno.EBUSY)
        self._remember_name(new, name_new)
        await self._rename(old, name_old, new, name_new, flags)

    async def _rename(self, old: Place, name: bytes, new: Place, new_name: bytes, flags: int) -> None:
        def move(txn: Transaction) -> Inode | None:
            # The kernel knows nothing of these: a change that may include them is told to it like one of others.
            tree.forget_lingering(txn, old.inode_id, name)
            if txn.catalog.entry(new.inode_id, new_name) is not None:
                tree.forget_lingering(txn, new.inode_id, new_name)
            if flags & pyfuse3.RENAME_EXCHANGE:
                tree.exchange(txn, old.inode_id, name, new.inode_id, new_name)
                return None
            if flags & pyfuse3.RENAME_NOREPLACE and txn.catalog.entry(new.inode_id, new_name) is not None:
                raise FUSEError(errno.EEXIST)
            return tree.rename(txn, old.inode_id, name, new.inode_id, new_name)

        gone = await self._change(move, kernel_knows=False)
        self._gone(new, [gone] if gone is not None else [])


def with_attributes(inode: Inode, attr: EntryAttributes, fields: pyfuse3.SetattrFields) -> Inode:
    """The inode with those attributes that setattr(2) asks to change, except the size."""
    changed: dict[str, Any] = {"ctime_ns": tree.now_ns()}
    if fields.update_mode:
        changed["mode"] = attr.st_mode & 0o7777
    if fields.update_uid:
        changed["uid"] = attr.st_uid
    if fields.update_gid:
        changed["gid"] = attr.st_gid
    if fields.update_mtime:
        changed["mtime_ns"] = bounded_time_ns(attr.st_mtime_ns)
    if fields.update_atime:
        changed["atime_ns"] = bounded_time_ns(attr.st_atime_ns)
    return replace(inode, **changed)
