"""What the kernel asks without changing anything: names, attributes, contents.

Handlers run on the event loop. Look-ups are answered there from the catalog, reads from memory where possible and from
a thread otherwise. A read-only mount needs no more than this; the kernel refuses all else in one by itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import ClassVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ModeT, RequestContext

from zipfs.errors import NotADirectory, NotFound, ReadOnly
from zipfs.metrics.counters import Counters
from zipfs.mount.attributes import describe
from zipfs.mount.errors import guarded
from zipfs.mount.handles import FileHandle, Handles, Listing
from zipfs.mount.logs import Log
from zipfs.mount.numbers import INGEST, VIRTUAL_DIRECTORY, Place, place
from zipfs.mount.virtual import FILES, NAME, Virtual
from zipfs.reading import Reader, open_content
from zipfs.reading.content import SpooledContent
from zipfs.store.catalog.tree_queries import NAMES_AT_ONCE
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, NAME_NBYTES_AT_MOST, ROOT, Inode, InodeId
from zipfs.store.store import Store
from zipfs.vfs import xattrs
from zipfs.vfs.directory_sums import sum_directory
from zipfs.vfs.visibility import Requester, requester

_LISTED_AT_ONCE = 256
"""Entries that a request for more is answered with: some milliseconds, in which nothing else is answered."""
_PAGE_NAMES = 4096
"""Names of a directory that are read in one go: 2 ms, in which nothing else is answered."""
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_DOTS = (b".", b"..")


class Stale(NotFound):
    """{0} is not there any more"""

    # Another process has replaced what the kernel remembers under a name, and the kernel is being told just now.
    # ESTALE makes it look the name up anew; ENOENT would tell a reader that the file has gone.
    errno = errno.ESTALE


class ReadingOperations(pyfuse3.Operations):
    """The served tree. `store` belongs to the event loop."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    shows_ingest: ClassVar[bool] = False

    def __init__(self, store: Store, virtual: Virtual, counters: Counters) -> None:
        super().__init__()
        self.store = store
        self.virtual = virtual
        self.counters = counters
        self.handles = Handles()
        self.removed: dict[InodeId, None] = {}
        """Inodes whose last name was unlinked here a moment ago."""
        counters.gauge("open_files", self.handles.files)
        self.ready = trio.Event()
        self.reader = Reader(store.frames, counters)

    def init(self) -> None:
        self.ready.set()

    # Names and attributes

    def _missing(self, where: Place) -> NotFound:
        """What to answer for an inode that is gone. The kernel looks a name up again once when it is told ESTALE: that
        finds what has taken its place. What was unlinked has left its name free, and ENOENT is the whole truth.
        """
        return (NotFound if where.inode_id in self.removed else Stale)(f"inode {where.inode_id}")

    def _inode(self, where: Place) -> Inode:
        """Raises Stale for what is gone, unless somebody still has it open."""
        try:
            return self.store.catalog.inode(where.inode_id)
        except NotFound as error:
            unlinked = self.handles.unlinked(where.inode_id)
            if unlinked is None:
                raise self._missing(where) from error
            return unlinked.inode

    def _describe(self, where: Place) -> EntryAttributes:
        try:
            return describe(self.store, where, *self.store.catalog.inode_and_names(where.inode_id))
        except NotFound as error:
            raise self._missing(where) from error

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
            if name == b"..":
                return self._describe(Place(ROOT, False))
            number = VIRTUAL_DIRECTORY if name == b"." else FILES.get(name)
            return None if number is None else self.virtual.attributes(number)
        parent = place(parent_inode)
        if parent.inode_id == ROOT and name == NAME:
            return self.virtual.attributes(VIRTUAL_DIRECTORY)
        if name == b".":
            return self._describe(parent)
        if parent.inode_id == ROOT and name == INGEST and self.shows_ingest:
            return self._describe(Place(INGEST_ROOT, True))
        if name == b"..":
            return self._describe(self._parent(parent))
        found = self.store.catalog.child(parent.inode_id, name)
        return None if found is None else self._describe_found(parent, *found)

    def _describe_found(self, parent: Place, inode: Inode, names: int) -> EntryAttributes:
        return describe(self.store, parent.beside(inode.id), inode, names)

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
            unlinked = self.handles.unlinked(where.inode_id)
            if unlinked is None:
                raise
            contents = [handle.content for handle in self.handles.of_inode(where.inode_id)]
            spooled = next((content.stat() for content in contents if isinstance(content, SpooledContent)), None)
            attributes = describe(self.store, where, unlinked.inode, 1, spooled)
            attributes.st_nlink = 0
            return attributes

    @guarded
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        target = self._inode(place(inode)).target
        if target is None:
            raise FUSEError(errno.EINVAL)
        return target

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        if inode == VIRTUAL_DIRECTORY:
            return self.handles.add(Listing(inode, None))
        found = self._inode(place(inode))
        if not found.is_directory:
            raise NotADirectory(f"inode {inode}")
        return self.handles.add(Listing(inode, found))

    async def _listed(self, directory: InodeT) -> list[bytes]:
        """What a directory shows now, with itself and its parent."""
        if directory == VIRTUAL_DIRECTORY:
            return [*_DOTS, *FILES]
        where = place(directory)
        ingest = [INGEST] if where.inode_id == ROOT and self.shows_ingest else []
        return [*_DOTS, *ingest, *await self._names(where)]

    async def _names(self, where: Place) -> list[bytes]:
        names: list[bytes] = []
        while True:
            more = self.store.catalog.names_after(where.inode_id, names[-1] if names else None, _PAGE_NAMES)
            names += more
            if len(more) < _PAGE_NAMES:
                return names
            await trio.lowlevel.checkpoint()  # reads are not to wait for a directory of a million names

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        # As they are now: the kernel keeps these attributes, and the names with them. It changes nothing in the
        # directory itself while it waits for this answer, and is told of the changes of others after it. So there must
        # be no checkpoint from the first look to the answer.
        listing = self.handles.listing(fh)
        if start_id == 0:  # the first time, and after rewinddir(3)
            listing.names = await self._listed(listing.directory)
        replied = 0
        for start in range(start_id, len(listing.names), NAMES_AT_ONCE):
            if replied >= _LISTED_AT_ONCE:
                return
            names = listing.names[start : start + NAMES_AT_ONCE]
            found = self._children(listing.directory, names)
            for next_id, name in enumerate(names, start=start + 1):
                attributes = found(name)
                if attributes is None:
                    continue
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, next_id):
                    return
                replied += 1

    def _children(self, directory: InodeT, names: Sequence[bytes]) -> Callable[[bytes], EntryAttributes | None]:
        """A look at several names of a directory at once."""
        parent = place(directory)
        found = {} if directory == VIRTUAL_DIRECTORY else self.store.catalog.children_named(parent.inode_id, names)

        def look(name: bytes) -> EntryAttributes | None:
            if name in found:
                return self._describe_found(parent, *found[name])
            if directory != VIRTUAL_DIRECTORY and name not in (*_DOTS, INGEST):
                return None
            try:
                return self._child(directory, name)
            except NotFound:  # of a directory that was removed
                return None

        return look

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
        """Nothing is kept per inode that the kernel knows."""

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
        inode = self._inode(where)
        try:
            content = open_content(self.store, self.reader, inode)
        except NotFound as error:
            others = self.handles.of_inode(inode.id)
            if not others:  # removed since, by another process
                raise self._missing(where) from error
            content = others[0].content.again()
        handle = FileHandle(where, inode, content, ctx.pid, spooled=False, writing=False)
        return FileInfo(fh=self.handles.add(handle), keep_cache=True)

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
            found = await _outcome(content.submit(off, size))
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

    async def _sync(self, handle: FileHandle | Log | bytes) -> None:
        """What is served is on the disk already."""

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
        where = place(inode)
        if name.startswith(xattrs.PREFIX):
            who = requester(ctx.uid, ctx.gid, ctx.pid)
            if name == xattrs.PERF and where.inode_id == ROOT and who.sees_everything:
                return self.virtual.perf()
            found = await self._computed(where, who)
        else:
            found = self._xattrs(where)
        if name not in found:
            raise FUSEError(pyfuse3.ENOATTR)
        return found[name]

    async def _computed(self, where: Place, who: Requester) -> dict[bytes, bytes]:
        inode = self._inode(where)
        if inode.is_directory and not where.under_ingest and who.sees_everything:
            sums = await sum_directory(self.store, inode.id)
            return {xattrs.PREFIX + key.encode(): value.encode() for key, value in sums.items()}
        return xattrs.computed(self.store, inode, who)

    @guarded
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        if self.virtual.owns(inode):
            return []
        where = place(inode)
        # The computed ones are not listed under ingest/: copies of a tree would try to set them.
        return list(self._xattrs(where))

    def _xattrs(self, where: Place) -> dict[bytes, bytes]:
        found = self.store.catalog.xattrs(where.inode_id)
        if found or not self.handles.is_open(where.inode_id) or self.store.catalog.has_name(where.inode_id):
            return found
        unlinked = self.handles.unlinked(where.inode_id)
        return found if unlinked is None else unlinked.xattrs


async def _outcome(future: Future[bytes | memoryview]) -> bytes | memoryview:
    """What another thread comes up with; a good deal cheaper than `trio.to_thread`, and holds no thread meanwhile."""
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    future.add_done_callback(lambda _: token.run_sync_soon(done.set))
    await done.wait()
    return future.result()
