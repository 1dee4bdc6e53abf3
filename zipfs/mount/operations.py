"""What the kernel asks of the served tree: names, attributes, contents.

Handlers run on the event loop. Look-ups are answered there from the catalog, reads from memory where possible and from
a thread otherwise; changes go through `Changes`. What happens below `ingest/` is in `IngestOperations`, the subclass
that a writing mount uses; here every attempt to write content is refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import NoAttribute, NotADirectory, NotFound, ReadOnly
from zipfs.mount import xattrs
from zipfs.mount.attributes import describe
from zipfs.mount.changes import Changes
from zipfs.mount.errors import guarded
from zipfs.mount.handles import FileHandle, Handles, Listing
from zipfs.mount.numbers import VIRTUAL_DIRECTORY, Place, place
from zipfs.mount.virtual import FILES, NAME, Virtual
from zipfs.serve import open_content
from zipfs.store import tree
from zipfs.store.removal import free_spool
from zipfs.store.rows import INGEST_ROOT, ROOT, Area, Inode, Kind, State
from zipfs.store.store import Store
from zipfs.store.transaction import Transaction

T = TypeVar("T")

_READERS = 16
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND


class Stale(NotFound):
    """{0} is not there any more"""

    # Another process has replaced what the kernel remembers under a name, and the kernel is being told just now.
    # ESTALE makes it look the name up anew; ENOENT would tell a reader that the file has gone.
    errno = errno.ESTALE


class ServedOperations(pyfuse3.Operations):
    """The served tree. `store` belongs to the event loop."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, store: Store, changes: Changes, virtual: Virtual, *, read_only: bool) -> None:
        super().__init__()
        self.store = store
        self.changes = changes
        self.virtual = virtual
        self.read_only = read_only
        self.handles = Handles()
        self.ready = trio.Event()
        self._readers = trio.CapacityLimiter(_READERS)

    def init(self) -> None:
        self.ready.set()

    # Names and attributes

    def _inode(self, where: Place) -> Inode:
        try:
            return self.store.catalog.inode(where.inode_id)
        except NotFound as error:
            raise Stale(f"inode {where.inode_id}") from error

    def _describe(self, where: Place) -> EntryAttributes:
        return describe(self.store, where, self._inode(where))

    @guarded
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        tree.check_name(name)
        found = self._child(parent_inode, name)
        if found is None:
            if parent_inode != VIRTUAL_DIRECTORY:
                self._inode(place(parent_inode))
            raise FUSEError(errno.ENOENT)
        return found

    def _child(self, parent_inode: InodeT, name: bytes) -> EntryAttributes | None:
        if parent_inode == VIRTUAL_DIRECTORY:
            return self.virtual.attributes(FILES[name]) if name in FILES else None
        parent = place(parent_inode)
        if parent.inode_id == ROOT and name == NAME:
            return self.virtual.attributes(VIRTUAL_DIRECTORY)
        if name == b".":
            return self._describe(parent)
        if parent.inode_id == ROOT and name == b"ingest":
            return self._describe(Place(INGEST_ROOT, True))
        if name == b"..":
            return self._describe(self._parent(parent))
        entry = self.store.catalog.entry(parent.inode_id, name)
        return None if entry is None else self._describe(parent.beside(entry.inode_id))

    def _parent(self, where: Place) -> Place:
        if where.inode_id in (ROOT, INGEST_ROOT):
            return Place(ROOT, False)
        entry = tree.parent_entry(self.store.catalog, where.inode_id)
        return where.beside(entry.parent_id)

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        if self.virtual.owns(inode):
            return self.virtual.attributes(inode)
        return self._getattr(place(inode))

    def _getattr(self, where: Place) -> EntryAttributes:
        try:
            return self._describe(where)
        except NotFound:
            # Removed or replaced while open, here or by another process: answered as for any other file system.
            for handle in self.handles.of_inode(where):
                attributes = describe(self.store, where, handle.inode)
                attributes.st_size = handle.content.nbytes
                attributes.st_nlink = 0
                return attributes
            raise

    def remember(self, gone: Inode | None) -> None:
        """Keep an inode that is about to vanish, for whoever has it open. Call before the change."""
        if gone is None:
            return
        for handle in self.handles.of_inode(Place(gone.id, False)):
            handle.inode = gone

    @guarded
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        target = self._inode(place(inode)).target
        if target is None:
            raise FUSEError(errno.EINVAL)
        return target

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        if inode == VIRTUAL_DIRECTORY:
            return self.handles.add(Listing(inode, list(FILES)))
        where = place(inode)
        if not self._inode(where).is_directory:
            raise NotADirectory(f"inode {inode}")
        names = [entry.name for entry, _ in self.store.catalog.children(where.inode_id)]
        if where.inode_id == ROOT and not self.read_only:
            names.insert(0, b"ingest")
        return self.handles.add(Listing(inode, names))

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self.handles.listing(fh)
        for at in range(start_id, len(listing.names)):
            name = listing.names[at]
            # As it is now: the kernel keeps these attributes, and the name with them. It changes nothing in the
            # directory itself while it waits for this answer, and is told of the changes of others after it.
            try:
                attributes = self._child(listing.directory, name)
            except NotFound:
                continue
            if attributes is None:
                continue
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, at + 1):
                break

    @guarded
    async def releasedir(self, fh: FileHandleT) -> None:
        self.handles.remove(fh)

    @guarded
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self.store.path)
        data = pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(data, name, getattr(found, name))
        data.f_namemax = tree.NAME_NBYTES_AT_MOST
        return data

    @guarded
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        return True  # the kernel checks modes itself (default_permissions)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Nothing is kept per inode that the kernel knows."""

    # Contents

    @guarded
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        if self.virtual.owns(inode):
            if flags & _WRITE_FLAGS:
                raise FUSEError(errno.EROFS)
            return FileInfo(fh=self.handles.add(self.virtual.content(inode)), direct_io=True)
        return await self._open(place(inode), flags)

    async def _open(self, where: Place, flags: int) -> FileInfo:
        if flags & _WRITE_FLAGS:
            raise ReadOnly(f"inode {where.inode_id}")
        inode = self._inode(where)
        handle = FileHandle(where, inode, open_content(self.store, inode), spooled=False, writing=False)
        return FileInfo(fh=self.handles.add(handle), keep_cache=True)

    @guarded
    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer, and copies no memoryview
        self, fh: FileHandleT, off: int, size: int
    ) -> bytes | memoryview:
        handle = self.handles.file(fh)
        if isinstance(handle, bytes):
            return handle[off : off + size]
        content = handle.content
        found = content.read_cached(off, size)
        if found is None:
            found = await trio.to_thread.run_sync(content.read, off, size, limiter=self._readers)
        return found

    @guarded
    async def flush(self, fh: FileHandleT) -> None:
        return

    @guarded
    async def release(self, fh: FileHandleT) -> None:
        handle = self.handles.remove(fh)
        if isinstance(handle, FileHandle):
            self._release(handle)

    def _release(self, handle: FileHandle) -> None:
        handle.content.close()

    @guarded
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._sync(self.handles.file(fh))

    async def _sync(self, handle: FileHandle | bytes) -> None:
        await self.changes.run(lambda store: store.sync())

    @guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self.changes.run(lambda store: store.sync())

    # Extended attributes

    @guarded
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        if self.virtual.owns(inode):
            raise FUSEError(pyfuse3.ENOATTR)
        where = place(inode)
        if name.startswith(xattrs.PREFIX):
            found = xattrs.computed(self.store, self._inode(where))
        else:
            found = self.store.catalog.xattrs(where.inode_id)
        if name not in found:
            raise FUSEError(pyfuse3.ENOATTR)
        return found[name]

    @guarded
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        if self.virtual.owns(inode):
            return []
        where = place(inode)
        # The computed ones are not listed under ingest/: copies of a tree would try to set them.
        return list(self.store.catalog.xattrs(where.inode_id))

    @guarded
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        where = self._writable(inode)
        if name.startswith(xattrs.PREFIX):
            raise FUSEError(errno.EPERM)
        if not name.startswith(b"user."):
            # Capabilities, ACLs and labels mean nothing here, and kept without effect they would mislead.
            raise FUSEError(errno.EOPNOTSUPP)
        await self._change(lambda txn: txn.put_xattr(where.inode_id, name, value))

    @guarded
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        where = self._writable(inode)

        def drop(txn: Transaction) -> None:
            if name not in txn.catalog.xattrs(where.inode_id):
                raise NoAttribute(f"inode {inode}", name)
            txn.drop_xattr(where.inode_id, name)

        await self._change(drop)

    # Changes to the tree

    def _writable(self, inode: InodeT) -> Place:
        if self.read_only or self.virtual.owns(inode):
            raise FUSEError(errno.EROFS)
        return place(inode)

    async def _change(self, work: Callable[[Transaction], T], *, kernel_knows: bool = True, fault: str = "") -> T:
        return await self.changes.make(work, kernel_knows=kernel_knows, fault=fault)

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
        if fields.update_size:
            raise ReadOnly(f"inode {where.inode_id}")

        def change(txn: Transaction) -> None:
            txn.put_inode(with_attributes(txn.catalog.inode(where.inode_id), attr, fields))

        await self._change(change)
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
        raise FUSEError(errno.EPERM)  # regular files come through create; there are no devices here

    async def _make(
        self, parent: Place, name: bytes, kind: Kind, mode: int, ctx: RequestContext, target: bytes | None = None
    ) -> EntryAttributes:
        def make(txn: Transaction) -> Inode:
            inode = tree.new_inode(txn, kind, State.NONE, mode & ~ctx.umask, ctx.uid, ctx.gid, target)
            tree.link(txn, parent.inode_id, name, inode, Area.SERVED)
            return inode

        inode = await self._change(make)
        return self._describe(parent.beside(inode.id))

    @guarded
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        return await self._create(self._writable(parent_inode), name, mode, ctx)

    async def _create(
        self, parent: Place, name: bytes, mode: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
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
        await self._change(
            lambda txn: tree.link(txn, parent.inode_id, name, txn.catalog.inode(where.inode_id), Area.SERVED)
        )
        return self._describe(where)

    @guarded
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self._writable(parent_inode)
        self._remember_name(parent, name)

        def drop(txn: Transaction) -> Inode | None:
            self._forget_echoes(txn, parent, name)
            return tree.unlink(txn, parent.inode_id, name)

        gone = await self._change(drop, kernel_knows=parent.under_ingest, fault="delete")
        self._gone(parent, [gone] if gone is not None else [])

    def _remember_name(self, parent: Place, name: bytes) -> None:
        entry = self.store.catalog.entry(parent.inode_id, name)
        if entry is not None:
            self.remember(self.store.catalog.inode(entry.inode_id))

    def _forget_echoes(self, txn: Transaction, parent: Place, name: bytes) -> None:
        """The kernel knows nothing of these: a change that may include them is told to it like one of others."""
        if not parent.under_ingest:
            tree.forget_echoes_of_name(txn, parent.inode_id, name)

    def _gone(self, parent: Place, gone: Sequence[Inode]) -> None:
        free_spool(self.store, gone)

    @guarded
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self._writable(parent_inode)
        if parent.inode_id == ROOT and name in tree.RESERVED_AT_ROOT:
            raise FUSEError(errno.EBUSY)

        def drop(txn: Transaction) -> None:
            tree.rmdir(txn, parent.inode_id, name)
            if not parent.under_ingest:
                tree.forget_echo_of_directory(txn, tree.path_of(txn.catalog, parent.inode_id) + b"/" + name)

        await self._change(drop, kernel_knows=parent.under_ingest)
        self._gone(parent, [])

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
        old, new = self._writable(parent_inode_old), self._writable(parent_inode_new)
        if old.under_ingest != new.under_ingest:
            raise FUSEError(errno.EXDEV)
        if old.inode_id == ROOT and name_old in tree.RESERVED_AT_ROOT:
            raise FUSEError(errno.EBUSY)
        self._remember_name(new, name_new)
        await self._rename(old, name_old, new, name_new, flags)

    async def _rename(self, old: Place, name: bytes, new: Place, new_name: bytes, flags: int) -> None:
        def move(txn: Transaction) -> Inode | None:
            self._forget_echoes(txn, old, name)
            if txn.catalog.entry(new.inode_id, new_name) is not None:
                self._forget_echoes(txn, new, new_name)
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
        changed["mtime_ns"] = attr.st_mtime_ns
    return replace(inode, **changed)
