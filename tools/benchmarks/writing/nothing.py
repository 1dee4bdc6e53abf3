"""A mount that takes writes and does as little as can be done with them: the least that a mount by pyfuse3 costs.

Usage: nothing.py FOLDER MOUNTPOINT [--drop]
Stays in front. Each file is one of FOLDER, and a write is one pwrite(2) on the event loop; with --drop the bytes go
nowhere. pyfuse3 is used as it comes: nothing of ZipFS is bound in front of it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
)

IO_NBYTES = 1 << 20
_KEEP_S = 3600


class Nothing(pyfuse3.Operations):
    """One directory of files. Inode numbers are positions in `names`, from the root's on; a file is open once."""

    def __init__(self, folder: Path, *, drops: bool) -> None:
        super().__init__()
        self._folder = folder
        self._drops = drops
        self._names: list[bytes] = []
        self._nbytes: dict[int, int] = {}
        self._fds: dict[int, int] = {}

    def _attributes(self, inode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(inode)
        is_root = inode == pyfuse3.ROOT_INODE
        entry.st_mode = ModeT(stat.S_IFDIR | 0o755 if is_root else stat.S_IFREG | 0o644)
        entry.st_size = self._nbytes.get(inode, 0)
        entry.st_blksize = IO_NBYTES
        entry.st_nlink = 1
        entry.entry_timeout = entry.attr_timeout = _KEEP_S
        return entry

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if name not in self._names:
            raise FUSEError(errno.ENOENT)
        return self._attributes(pyfuse3.ROOT_INODE + 1 + self._names.index(name))

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(inode)

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(errno.EOPNOTSUPP)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        for position, name in enumerate(self._names[start_id:], start=start_id + 1):
            attributes = self._attributes(pyfuse3.ROOT_INODE + position)
            if name and not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, position):
                return

    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        self._names.append(name)
        inode = pyfuse3.ROOT_INODE + len(self._names)
        if not self._drops:
            self._fds[inode] = os.open(self._folder / os.fsdecode(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        return FileInfo(fh=FileHandleT(inode), keep_cache=True), self._attributes(inode)

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        if not self._drops:
            os.pwrite(self._fds[fh], buf, off)
        self._nbytes[fh] = max(self._nbytes.get(fh, 0), off + len(buf))
        return len(buf)

    async def flush(self, fh: FileHandleT) -> None:
        return

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        if not self._drops:
            os.fsync(self._fds[fh])

    async def release(self, fh: FileHandleT) -> None:
        if not self._drops:
            os.close(self._fds.pop(fh))

    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        self._names[self._names.index(name)] = b""
        if not self._drops:
            (self._folder / os.fsdecode(name)).unlink()

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        return


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--drop"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    operations = Nothing(Path(arguments[0]), drops="--drop" in sys.argv)
    pyfuse3.init(operations, arguments[1], {"fsname=nothing", "default_permissions"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
