"""Packs in a local directory, one file each.

A pack is written to `<name>.pack.part`, which no reader looks at, and renamed once its bytes are on the disk. An open
pack holds the file and not the name: so it stays readable when the pack is deleted, and its space is freed when nobody
holds it any more.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from zipfs.errors import PackDamaged
from zipfs.store.disk.files import create_file, open_file, read_at, sync_directory
from zipfs.store.objects.values import PackName
from zipfs.store.packs import _native
from zipfs.store.packs.file import PackFile, ReadRange, ends_early

_SUFFIX: Final = ".pack"
_PART_SUFFIX: Final = ".pack.part"
_IDLE_FILES: Final = 128
"""Packs that are kept open, at most, beside those that somebody reads from."""
_WRITTEN_BACK_NBYTES: Final = 32 << 20


class LocalPackFile(PackFile):
    """A pack by its descriptor, which is closed when the last user lets go of it."""

    __slots__ = ("fd",)

    def __init__(self, name: PackName, fd: int, where: str) -> None:
        super().__init__(name, where)
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)

    @property
    def nbytes(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def deleted(self) -> bool:
        """Return whether the file has no name any more."""
        return os.fstat(self.fd).st_nlink == 0

    def read(self, offset: int, nbytes: int) -> bytes:
        try:
            data = read_at(self.fd, offset, nbytes)
        except OSError as error:
            raise PackDamaged(self.where, offset, _cannot_be_read(error.errno)) from error
        if len(data) < nbytes:
            raise PackDamaged(self.where, offset, ends_early(nbytes - len(data)))
        return data

    @staticmethod
    def read_ranges(ranges: Sequence[ReadRange], resident: Sequence[memoryview] = ()) -> None:
        failed = _native.read_ranges([(pack.fd, offset, into) for pack, offset, into in ranges], resident)  # type: ignore[attr-defined]
        if failed is not None:
            position, left, error = failed
            pack, offset, _ = ranges[position]
            raise PackDamaged(pack.where, offset, _cannot_be_read(error) if error else ends_early(left))

    def forget_cached(self) -> None:
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _cannot_be_read(error: int | None) -> str:
    return f"cannot be read: {os.strerror(error or errno.EIO)}"


class LocalPart:
    """A file `<name>.pack.part`, and the name that it is to have."""

    def __init__(self, part: Path, path: Path, name: PackName) -> None:
        self._part = part
        self._path = path
        self._file: LocalPackFile | None = None
        self._nbytes = 0
        self._written_back = 0
        self._fd = create_file(part)
        try:
            self._file = LocalPackFile(name, os.dup(self._fd), str(part))
        except BaseException:
            self.discard()
            raise

    @property
    def file(self) -> PackFile:
        assert self._file is not None
        return self._file

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._nbytes)
            self._nbytes += written
            view = view[written:]
        if self._nbytes - self._written_back >= _WRITTEN_BACK_NBYTES:
            # Has the kernel begin to write, so that `sync`, which nothing can interrupt, does not have it all to do.
            os.posix_fadvise(self._fd, self._written_back, self._nbytes - self._written_back, os.POSIX_FADV_DONTNEED)
            self._written_back = self._nbytes

    def truncate(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._written_back = min(self._written_back, nbytes)

    def sync(self) -> None:
        os.ftruncate(self._fd, self._nbytes)
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
        self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalPacks:
    """The packs in one directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: OrderedDict[PackName, LocalPackFile] = OrderedDict()

    def _path_of(self, name: PackName) -> Path:
        return self._path / (name.hex() + _SUFFIX)

    def where(self, name: PackName) -> str:
        return str(self._path_of(name))

    def names(self) -> Iterator[PackName]:
        for path in self._path.iterdir():
            if path.name.endswith(_SUFFIX):
                try:
                    name = bytes.fromhex(path.name.removesuffix(_SUFFIX))
                except ValueError:
                    continue
                if len(name) == 16:
                    yield PackName(name)

    def exists(self, name: PackName) -> bool:
        return self._path_of(name).exists()

    def nbytes(self, name: PackName) -> int:
        return self._path_of(name).stat().st_size

    def open(self, name: PackName) -> PackFile:
        with self._lock:
            file = self._open.get(name)
            if file is not None and file.deleted:
                del self._open[name]  # or the space of a collected pack would not be freed
                file = None
            if file is not None:
                self._open.move_to_end(name)
                return file
            path = self._path_of(name)
            file = self._open[name] = LocalPackFile(name, open_file(path), str(path))
            while len(self._open) > _IDLE_FILES:
                self._open.popitem(last=False)
            return file

    def begin(self, name: PackName) -> LocalPart:
        return LocalPart(self._path / (name.hex() + _PART_SUFFIX), self._path_of(name), name)

    def delete(self, name: PackName) -> None:
        with self._lock:
            self._open.pop(name, None)
        self._path_of(name).unlink(missing_ok=True)

    def release_deleted(self) -> None:
        with self._lock:
            for name in [name for name, file in self._open.items() if file.deleted]:
                del self._open[name]

    def unfinished(self) -> Iterator[str]:
        return (str(path) for path in self._parts())

    def clear_unfinished(self) -> None:
        for path in self._parts():
            path.unlink(missing_ok=True)

    def _parts(self) -> Iterator[Path]:
        return (path for path in self._path.iterdir() if path.name.endswith(_PART_SUFFIX))
