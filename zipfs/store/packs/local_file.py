"""An open pack of a local directory, and one that is being written there, past the page cache where that can be.

What is appended is collected in blocks and written from there to the disk itself (O_DIRECT): it takes a fifth of the
processor time that a copy to the page cache and its way from there take, and what is read back comes from the disk.
Where the file system has no such writes, the page cache takes them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from zipfs.codec.contract import Bytes, view_bytes
from zipfs.errors import PackDamaged
from zipfs.store.disk.files import create_file, open_file, read_at, sync_directory
from zipfs.store.objects.values import PackName
from zipfs.store.packs import _native
from zipfs.store.packs.file import PackFile, ReadRange, ends_early

_BLOCK_NBYTES: Final = 4096
"""Offsets and lengths of direct writes are multiples of this."""
_COLLECTED_NBYTES: Final = 4 << 20
"""What is written at once."""
_LEAST_DIRECT_NBYTES: Final = 64 << 10
"""Of the end of a pack that is shorter than this, all goes by the page cache: two short writes take longer."""
_WRITTEN_BACK_NBYTES: Final = 32 << 20


class LocalPackFile(PackFile):
    """A pack by its descriptor, which is closed when the last user lets go of it.

    `part` is what still writes it, and has the end of it, which is not in the file yet.
    """

    __slots__ = ("fd", "part")

    def __init__(self, name: PackName, fd: int, where: str, part: LocalPart | None = None) -> None:
        super().__init__(name, where)
        self.fd = fd
        self.part = part

    def __del__(self) -> None:
        os.close(self.fd)

    @property
    def nbytes(self) -> int:
        return os.fstat(self.fd).st_size if self.part is None else self.part.nbytes

    @property
    def deleted(self) -> bool:
        """Return whether the file has no name any more."""
        return os.fstat(self.fd).st_nlink == 0

    def read(self, offset: int, nbytes: int) -> bytes:
        if self.part is not None:
            buffer = memoryview(bytearray(max(0, min(nbytes, self.part.nbytes - offset))))
            self.read_ranges([ReadRange(self, offset, buffer)])
            data = bytes(buffer)
        else:
            try:
                data = read_at(self.fd, offset, nbytes)
            except OSError as error:
                raise PackDamaged(self.where, offset, _cannot_be_read(error.errno)) from error
        if len(data) < nbytes:
            raise PackDamaged(self.where, offset, ends_early(nbytes - len(data)))
        return data

    @staticmethod
    def read_ranges(ranges: Sequence[ReadRange], resident: Sequence[memoryview] = ()) -> None:
        in_files, numbers = [], []
        for number, (pack, offset, into) in enumerate(ranges):
            assert isinstance(pack, LocalPackFile)
            left = into if pack.part is None else pack.part.fill(pack.fd, offset, into)
            if left:
                in_files.append((pack.fd, offset, left))
                numbers.append(number)
        failed = _native.read_ranges(in_files, resident) if in_files else None
        if failed is not None:
            position, left_nbytes, error = failed
            pack, offset, _ = ranges[numbers[position]]
            raise PackDamaged(pack.where, offset, _cannot_be_read(error) if error else ends_early(left_nbytes))

    def forget_cached(self) -> None:
        at = 0 if self.part is None else self.part.cached_from
        os.posix_fadvise(self.fd, at, 0, os.POSIX_FADV_DONTNEED)


def _cannot_be_read(error: int | None) -> str:
    return f"cannot be read: {os.strerror(error or errno.EIO)}"


class LocalPart:
    """A file `<name>.pack.part`, and the name that it is to have.

    One thread writes. Meanwhile any may read what was appended, through `file`, but not while some is taken back.
    """

    def __init__(self, part: Path, path: Path, name: PackName) -> None:
        self._part = part
        self._path = path
        self._lock = threading.Lock()
        self._blocks = _take_blocks()
        self._collected_nbytes = 0
        self._written_nbytes = 0
        """How much is in the file; what is collected follows."""
        self._written_back_nbytes = 0
        self._cached_from: int | None = None
        """From where on the page cache took what was written; None if all went by it."""
        self._file: LocalPackFile | None = None
        self._fd = create_file(part)
        try:
            self._file = LocalPackFile(name, open_file(part), str(part), self)
        except BaseException:
            self.discard()
            raise
        self._is_direct = _set_direct(self._fd, is_direct=True)
        self._reads_direct = self._is_direct and _set_direct(self._file.fd, is_direct=True)

    @property
    def file(self) -> PackFile:
        assert self._file is not None
        return self._file

    @property
    def nbytes(self) -> int:
        return self._written_nbytes + self._collected_nbytes

    @property
    def on_disk_nbytes(self) -> int:
        return min(self._written_nbytes, self.cached_from)

    @property
    def cached_from(self) -> int:
        """Return from where on the page cache may have what is not on the disk."""
        return self._written_nbytes if self._cached_from is None else self._cached_from

    def append(self, data: bytes | memoryview) -> None:
        view = view_bytes(data)
        while view.size:
            piece = view[: self._blocks.size - self._collected_nbytes]
            self._blocks[self._collected_nbytes :][: piece.size] = piece  # with the interpreter free for others
            self._collected_nbytes += piece.size
            view = view[piece.size :]
            if self._collected_nbytes == self._blocks.size:
                self._write(self._collected_nbytes)

    def fill(self, fd: int, offset: int, into: memoryview) -> memoryview:
        """Fill a buffer with what is not in the file yet, and from the disk; return what is to be read otherwise."""
        with self._lock:
            start = max(offset, self._written_nbytes)
            stop = min(offset + len(into), self.nbytes)
            if stop < offset + len(into):
                return into  # what ends early is told by whoever reads the file
            if start < stop:
                of_blocks = self._blocks[start - self._written_nbytes : stop - self._written_nbytes]
                into[start - offset : stop - offset] = of_blocks.data
                into = into[: start - offset]
        if not self._reads_direct or not into:
            return into
        left = _read_direct(fd, offset, into)
        if left:
            self._reads_direct = _set_direct(fd, is_direct=False)
        return left

    def _write(self, nbytes: int) -> None:
        """Move the first bytes of what is collected into the file; as they are whole blocks, past the page cache."""
        at = self._written_nbytes
        view = self._blocks[:nbytes].data
        while view:
            try:
                written = os.pwrite(self._fd, view, at)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                self._is_direct = _set_direct(self._fd, is_direct=False)  # its blocks are larger, or there are none
                continue
            if not self._is_direct and self._cached_from is None:
                self._cached_from = at
            at += written
            view = view[written:]
        with self._lock:
            left = self._collected_nbytes - nbytes
            self._blocks[:left] = self._blocks[nbytes : self._collected_nbytes].copy()
            self._written_nbytes, self._collected_nbytes = at, left
        if not self._is_direct and at - self._written_back_nbytes >= _WRITTEN_BACK_NBYTES:
            # Has the kernel begin to write, so that `sync`, which nothing can interrupt, does not have it all to do.
            os.posix_fadvise(
                self._fd, self._written_back_nbytes, at - self._written_back_nbytes, os.POSIX_FADV_DONTNEED
            )
            self._written_back_nbytes = at

    def truncate(self, nbytes: int) -> None:
        if nbytes < self._written_nbytes:
            start = nbytes - nbytes % _BLOCK_NBYTES
            kept = self.file.read(start, nbytes - start)
            self._blocks[: len(kept)] = view_bytes(kept)
            self._written_nbytes = start
            self._written_back_nbytes = min(self._written_back_nbytes, start)
            if self._cached_from is not None:
                self._cached_from = min(self._cached_from, start)
        self._collected_nbytes = nbytes - self._written_nbytes

    def sync(self) -> None:
        whole = self._collected_nbytes - self._collected_nbytes % _BLOCK_NBYTES
        if self._is_direct and whole >= _LEAST_DIRECT_NBYTES:
            self._write(whole)
        if self._collected_nbytes:
            self._is_direct = _set_direct(self._fd, is_direct=False)
            self._write(self._collected_nbytes)
        os.ftruncate(self._fd, self._written_nbytes)
        os.fsync(self._fd)

    def finish(self, named: Callable[[], None]) -> None:
        if os.path.lexists(self._path):  # and under the pack lock nobody can be faster
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._path))
        os.rename(self._part, self._path)
        named()
        sync_directory(self._path.parent)
        self._close()

    def discard(self) -> None:
        try:
            self._part.unlink(missing_ok=True)
        finally:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            _set_direct(self._file.fd, is_direct=False)  # whoever still has it reads as he likes
            self._file.part = None
            self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            _spare.append(self._blocks)


def _set_direct(fd: int, *, is_direct: bool) -> bool:
    """Have a descriptor go past the page cache, or by it; return whether it goes past it."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if is_direct else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return is_direct


def _aligned(nbytes: int) -> Bytes:
    """Return memory that begins where a block may be read to."""
    memory = np.empty(nbytes + _BLOCK_NBYTES, np.uint8)
    start = -memory.ctypes.data % _BLOCK_NBYTES
    return memory[start : start + nbytes]


class _ReadBlocks(threading.local):
    """Memory for whole blocks that a thread reads."""

    def __init__(self) -> None:
        self._blocks = _aligned(1 << 20)

    def take(self, nbytes: int) -> Bytes:
        if self._blocks.size < nbytes:
            self._blocks = _aligned(nbytes)
        return self._blocks[:nbytes]


def _read_direct(fd: int, offset: int, into: memoryview) -> memoryview:
    """Fill a buffer from the disk; return it where that cannot be, and what else is to be read."""
    start = offset - offset % _BLOCK_NBYTES
    wanted_nbytes = offset + len(into) - start
    blocks = _read_blocks.take(-(-wanted_nbytes // _BLOCK_NBYTES) * _BLOCK_NBYTES)
    try:
        got_nbytes = os.preadv(fd, [blocks.data], start)
    except OSError:
        return into
    if got_nbytes < wanted_nbytes:
        return into
    view_bytes(into)[:] = blocks[offset - start : wanted_nbytes]
    return into[:0]


_read_blocks: Final = _ReadBlocks()

_spare: list[Bytes] = []
"""Blocks that the next part collects in: fresh memory costs page faults."""


def _take_blocks() -> Bytes:
    try:
        return _spare.pop()
    except IndexError:
        return _aligned(_COLLECTED_NBYTES)
