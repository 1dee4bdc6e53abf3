"""A mount that does nothing but hand out memory: what the kernel and pyfuse3 allow at most.

Usage: nothing.py FOLDER MOUNTPOINT
Stays in front and serves the files of FOLDER, which it has read into memory. The settings are those of `zipfs mount`:
content that the kernel may keep, long timeouts, the same sizes of requests.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, FUSEError, InodeT, ReaddirToken, RequestContext

from zipfs.mount import device, points
from zipfs.store.frames.buffers import BufferPool

KEEP_S = 3600


class Nothing(pyfuse3.Operations):
    """One directory of files. Inode numbers are positions in `names`, from the root's on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.ready = trio.Event()
        self.names = [os.fsencode(path.name) for path in sorted(folder.iterdir())]
        self.content = [_in_memory(path) for path in sorted(folder.iterdir())]

    def init(self) -> None:
        self.ready.set()

    def _attributes(self, inode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(inode)
        is_root = inode == pyfuse3.ROOT_INODE
        entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o555 if is_root else stat.S_IFREG | 0o444)
        entry.st_size = 0 if is_root else len(self._content(inode))
        entry.st_nlink = 2 if is_root else 1
        entry.entry_timeout = entry.attr_timeout = KEEP_S
        return entry

    def _content(self, inode: int) -> memoryview:
        return self.content[inode - pyfuse3.ROOT_INODE - 1]

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if name not in self.names:
            raise FUSEError(errno.ENOENT)
        return self._attributes(pyfuse3.ROOT_INODE + 1 + self.names.index(name))

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(inode)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        for position in range(start_id, len(self.names)):
            entry = self._attributes(pyfuse3.ROOT_INODE + 1 + position)
            if not pyfuse3.readdir_reply(token, self.names[position], entry, position + 1):
                return

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=FileHandleT(inode), keep_cache=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> memoryview:  # type: ignore[override]
        return self._content(fh)[off : off + size]

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        return


def _in_memory(path: Path) -> memoryview:
    """The content of a file, in pages that are there already."""
    nbytes = path.stat().st_size
    content = memoryview(mmap.mmap(-1, max(nbytes, 1)))[:nbytes]
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < nbytes and (count := file.readinto(content[done : done + (1 << 24)])):
            done += count
    return content.toreadonly()


async def _serve(operations: Nothing, mountpoint: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        await operations.ready.wait()
        points.tune(mountpoint)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, mountpoint = Path(sys.argv[1]), sys.argv[2]
    operations = Nothing(folder)
    device.prepare(BufferPool(0))
    pyfuse3.init(operations, mountpoint, {"fsname=nothing", "ro"})
    try:
        trio.run(_serve, operations, mountpoint)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
