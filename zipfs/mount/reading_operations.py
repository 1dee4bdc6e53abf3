"""What the kernel asks without changing anything: names, attributes, contents.

Handlers run on the event loop. Look-ups are answered there from the catalog, reads from memory where possible and from
a thread otherwise. A read-only mount needs no more than this; the kernel refuses all else in one by itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import Future
from typing import ClassVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import NotADirectory, NotFound, ReadOnly
from zipfs.metrics.counters import Counters
from zipfs.mount.attributes import describe
from zipfs.mount.errors import guarded
from zipfs.mount.handles import Handles, Listing, Readable, VirtualDirectory
from zipfs.mount.logs import Log
from zipfs.mount.numbers import VIRTUAL_DIRECTORY, place
from zipfs.mount.virtual import FILES, NAME, Virtual
from zipfs.reading import Reader, open_content
from zipfs.store.catalog.tree_queries import NAMES_AT_ONCE
from zipfs.store.objects.values import NAME_NBYTES_AT_MOST, ROOT, State
from zipfs.store.store import Store
from zipfs.vfs import xattrs
from zipfs.vfs.directory_sums import sum_directory
from zipfs.vfs.lookup import DOTS, Lookup
from zipfs.vfs.open_files import OpenDirectory, OpenFile, OpenFiles
from zipfs.vfs.place import Place
from zipfs.vfs.visibility import requester

_LISTED_AT_ONCE = 256
"""Entries that a request for more is answered with: some milliseconds, in which nothing else is answered."""
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_ROOT = Place(ROOT, False)


class ReadingOperations(pyfuse3.Operations):
    """The served tree. `store` belongs to the event loop."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    shows_ingest: ClassVar[bool] = False
    sees_all_writes: ClassVar[bool] = False
    """Whether content is written to through this kernel alone. What another mount has written in place is not in the
    pages that this kernel keeps: it drops them at each open of such a file.
    """

    def __init__(self, store: Store, virtual: Virtual, counters: Counters) -> None:
        super().__init__()
        self.store = store
        self.virtual = virtual
        self.counters = counters
        self.open_files = OpenFiles()
        self.handles = Handles(self.open_files)
        self.names = Lookup(store, self.open_files, shows_ingest=self.shows_ingest)
        counters.gauge("open_files", self.open_files.count)
        self.ready = trio.Event()
        self.reader = Reader(store.frames, counters)

    def init(self) -> None:
        self.ready.set()

    # Names and attributes

    @guarded
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if parent_inode == VIRTUAL_DIRECTORY:
            attributes = self._virtual_child(name)
            if attributes is None:
                raise FUSEError(errno.ENOENT)
            return attributes
        parent = place(parent_inode)
        if name == NAME and parent == _ROOT:
            return self.virtual.attributes(VIRTUAL_DIRECTORY)
        found = self.names.child(parent, name)
        if found is None:
            raise FUSEError(errno.ENOENT)
        return describe(self.store, parent.beside(found[0].id), *found)

    def _virtual_child(self, name: bytes) -> EntryAttributes | None:
        if name == b"..":
            return self._describe(_ROOT)
        number = VIRTUAL_DIRECTORY if name == b"." else FILES.get(name)
        return None if number is None else self.virtual.attributes(number)

    def _describe(self, where: Place) -> EntryAttributes:
        return describe(self.store, where, *self.names.named(where))

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        if self.virtual.owns(inode):
            return self.virtual.attributes(inode)
        where = place(inode)
        return describe(self.store, where, *self.names.stat(where))

    @guarded
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        target = self.names.inode(place(inode)).target
        if target is None:
            raise FUSEError(errno.EINVAL)
        return target

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        if inode == VIRTUAL_DIRECTORY:
            return self.handles.add(VirtualDirectory())
        where = place(inode)
        found = self.names.inode(where)
        if not found.is_directory:
            raise NotADirectory(f"inode {inode}")
        return self.handles.add(OpenDirectory(where, found))

    async def _listed(self, listing: Listing) -> list[bytes]:
        """Return what a directory shows now, with itself and its parent."""
        if isinstance(listing, VirtualDirectory):
            return [*DOTS, *FILES]
        return self.names.at_top(listing.where) + await self._names(listing.where)

    async def _names(self, where: Place) -> list[bytes]:
        names: list[bytes] = []
        for page in self.names.pages(where):
            if names:
                await trio.lowlevel.checkpoint()  # reads are not to wait for a directory of a million names
            names += page
        return names

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        # As they are now: the kernel keeps these attributes, and the names with them. It changes nothing in the
        # directory itself while it waits for this answer, and is told of the changes of others after it. So there must
        # be no checkpoint from the first look to the answer.
        listing = self.handles.listing(fh)
        if start_id == 0:  # the first time, and after rewinddir(3)
            listing.names = await self._listed(listing)
        replied = 0
        for start in range(start_id, len(listing.names), NAMES_AT_ONCE):
            if replied >= _LISTED_AT_ONCE:
                return
            names = listing.names[start : start + NAMES_AT_ONCE]
            found = self._children(listing, names)
            for next_id, name in enumerate(names, start=start + 1):
                attributes = found.get(name)
                if attributes is None:
                    continue
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, next_id):
                    return
                replied += 1

    def _children(self, listing: Listing, names: Sequence[bytes]) -> dict[bytes, EntryAttributes | None]:
        """Describe several names of a directory at once."""
        if isinstance(listing, VirtualDirectory):
            return {name: self._virtual_child(name) for name in names}
        store, parent = self.store, listing.where
        found = self.names.children(parent, names)
        return {name: describe(store, parent.beside(inode.id), inode, links) for name, (inode, links) in found.items()}

    @guarded
    async def releasedir(self, fh: FileHandleT) -> None:
        self.handles.remove(fh)

    @guarded
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self.store.path)
        data = pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(data, name, getattr(found, name))
        data.f_namemax = NAME_NBYTES_AT_MOST
        return data

    @guarded
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        return True  # the kernel checks modes itself (default_permissions)

    @guarded
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Keep nothing per inode that the kernel knows."""

    # Contents

    @guarded
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        if self.virtual.owns(inode):
            if flags & _WRITE_FLAGS:
                raise FUSEError(errno.EROFS)
            return FileInfo(
                fh=self.handles.add(await self.virtual.open(inode, requester(ctx.uid, ctx.gid, ctx.pid))),
                direct_io=True,
            )
        return await self._open(place(inode), flags, ctx)

    async def _open(self, where: Place, flags: int, ctx: RequestContext) -> FileInfo:
        if flags & _WRITE_FLAGS:
            raise ReadOnly(f"inode {where.inode_id}")
        inode = self.names.inode(where)
        try:
            content = open_content(self.store, self.reader, inode)
        except NotFound as error:
            others = self.open_files.of_inode(inode.id)
            if not others:  # removed since, by another process
                raise self.names.missing(where) from error
            content = others[0].content.again()
        handle = OpenFile(where, inode, content, ctx.pid, spooled=False, writing=False)
        same_pages = self.sees_all_writes or (inode.state is not State.OPEN and inode.spool_id is None)
        return FileInfo(fh=self.handles.add(handle), keep_cache=same_pages)

    @guarded
    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer, and copies no memoryview
        self, fh: FileHandleT, off: int, size: int
    ) -> bytes | memoryview:
        handle = self.handles.file(fh)
        if isinstance(handle, bytes):
            return handle[off : off + size]
        if isinstance(handle, Log):
            return handle.read(off, size)
        content = handle.content
        found = content.read_cached(off, size)
        if found is None:
            handle.reads += 1
            try:
                found = await _outcome(content.submit(off, size))
            finally:
                handle.end_read()
        return found

    @guarded
    async def flush(self, fh: FileHandleT) -> None:
        return

    @guarded
    async def release(self, fh: FileHandleT) -> None:
        handle = self.handles.remove(fh)
        if isinstance(handle, OpenFile):
            self._release(handle)

    def _release(self, handle: OpenFile) -> None:
        handle.content.close()

    @guarded
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._sync(self.handles.file(fh))

    async def _sync(self, handle: Readable) -> None:
        """Do nothing: what is served is on the disk already."""

    @guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        return

    # Extended attributes

    @guarded
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        if not name.startswith(b"user."):
            # Told that a file has no label and no ACL, ls(1) asks for those of the next; told that there are none here,
            # it does not.
            raise FUSEError(errno.EOPNOTSUPP)
        if self.virtual.owns(inode):
            raise FUSEError(pyfuse3.ENOATTR)
        found = await self._xattrs(place(inode), name, ctx)
        if name not in found:
            raise FUSEError(pyfuse3.ENOATTR)
        return found[name]

    async def _xattrs(self, where: Place, name: bytes, ctx: RequestContext) -> dict[bytes, bytes]:
        """Return the extended attributes among which one of a name would be."""
        if not xattrs.is_computed(name):
            return self.names.xattrs(where)
        who = requester(ctx.uid, ctx.gid, ctx.pid)
        if name == xattrs.PERF and where.inode_id == ROOT and who.sees_everything:
            return {name: self.virtual.perf()}
        inode = self.names.inode(where)
        if xattrs.are_sums(where, inode, who):
            return await trio.to_thread.run_sync(sum_directory, self.store, inode.id)
        return xattrs.computed(self.store, inode, who)

    @guarded
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        # The computed ones are not listed: copies of a tree would try to set them.
        return [] if self.virtual.owns(inode) else list(self.names.xattrs(place(inode)))


async def _outcome(future: Future[bytes | memoryview]) -> bytes | memoryview:
    """Wait for what another thread comes up with; cheaper than `trio.to_thread`, and holds no thread meanwhile."""
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    future.add_done_callback(lambda _: token.run_sync_soon(done.set))
    await done.wait()
    return future.result()
