"""A pyfuse3 mount that does nothing: the same tree, every answer made before it is asked for.

What is slower than this is ours; what is not is the kernel, libfuse, pyfuse3 and trio.  Run by tools/bench metadata in
a process of its own:  python -m tools.benchmarks.metadata.floor FILES MOUNTPOINT
"""

from __future__ import annotations

import errno
import signal
import stat
import sys
from collections.abc import Sequence

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileNameT, FlagT, FUSEError, InodeT, ModeT, RequestContext

from tools.benchmarks.metadata.tree import File, plan_tree

_TIMEOUT_S = 3600.0


class Nothing(pyfuse3.Operations):
    """Everything in memory, in the form in which pyfuse3 takes it."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(self, files: Sequence[File]) -> None:
        super().__init__()
        self._attributes: dict[int, EntryAttributes] = {}
        self._names: dict[int, dict[bytes, EntryAttributes]] = {}
        self._lists: dict[int, list[tuple[FileNameT, EntryAttributes]]] = {}
        top = self._add(stat.S_IFDIR | 0o755, 0, 0)
        assert top.st_ino == pyfuse3.ROOT_INODE
        directories: dict[bytes, int] = {b"": top.st_ino}
        for file in files:
            parent = self._directory(directories, file.directory)
            self._names[parent][file.name] = self._add(stat.S_IFREG | 0o644, file.nbytes, file.mtime_ns)
        for number, names in self._names.items():
            self._lists[number] = [(FileNameT(name), entry) for name, entry in sorted(names.items())]

    def _add(self, mode: int, nbytes: int, mtime_ns: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(len(self._attributes) + 1)
        entry.entry_timeout = entry.attr_timeout = _TIMEOUT_S
        entry.st_mode, entry.st_size, entry.st_nlink = ModeT(mode), nbytes, 1
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = mtime_ns
        self._attributes[entry.st_ino] = entry
        if stat.S_ISDIR(mode):
            self._names[entry.st_ino] = {}
        return entry

    def _directory(self, directories: dict[bytes, int], path: bytes) -> int:
        if path not in directories:
            parent, _, name = path.rpartition(b"/")
            entry = self._add(stat.S_IFDIR | 0o755, 0, 0)
            self._names[self._directory(directories, parent)][name] = entry
            directories[path] = entry.st_ino
        return directories[path]

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        try:
            return self._names[parent_inode][name]
        except KeyError:
            raise FUSEError(errno.ENOENT) from None

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._attributes[inode]

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        names = self._lists[fh]
        for at in range(start_id, len(names)):
            if not pyfuse3.readdir_reply(token, *names[at], at + 1):
                return

    async def releasedir(self, fh: FileHandleT) -> None: ...

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None: ...

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(errno.EOPNOTSUPP)

    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        return True

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> pyfuse3.FileInfo:
        raise FUSEError(errno.EACCES)


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal)
        await pyfuse3.main(2, 64)
        nursery.cancel_scope.cancel()


async def _stop_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            pyfuse3.terminate()


def main() -> None:
    """Mount; unmounts on SIGTERM, and when it is unmounted from outside."""
    files, mountpoint = sys.argv[1:]
    pyfuse3.init(Nothing(plan_tree(int(files))), mountpoint, {"fsname=nothing", "default_permissions"})
    try:
        trio.run(_serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
