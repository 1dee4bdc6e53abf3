"""Packs on disk: one writer at a time for a new pack, any number of readers.

A pack is written to `<name>.pack.part`, which no reader looks at, and renamed once its bytes are on disk. From then on
it never changes. An open `PackFile` stays readable when its pack is deleted, because it holds the file and not the
name: that is what makes collection safe under readers. `PackDirectory` and `PackFile` may be used from any thread, a
`PackWriter` from one at a time.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from zipfs.errors import PackDamaged
from zipfs.store.disk import faults
from zipfs.store.disk.files import create_file, open_file, read_at, sync_directory
from zipfs.store.objects.values import BaseRef, Blob, BlobId, PackName
from zipfs.store.packs import _native, pack_format
from zipfs.store.packs.pack_format import PackedBlob

SUFFIX = ".pack"
PART_SUFFIX = ".pack.part"
_IDLE_FILES = 128
_WRITTEN_BACK_NBYTES = 32 << 20


class PackFile:
    """An open pack. Its descriptor `fd` is closed when the last user lets go of it."""

    __slots__ = ("fd", "name", "where")

    def __init__(self, name: PackName, fd: int, where: str) -> None:
        self.name = name
        self.where = where
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)

    @property
    def nbytes(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def deleted(self) -> bool:
        return os.fstat(self.fd).st_nlink == 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly `nbytes` bytes; raises PackDamaged where the disk fails or the pack ends before."""
        try:
            data = read_at(self.fd, offset, nbytes)
        except OSError as error:
            raise PackDamaged(self.where, offset, _cannot_be_read(error.errno)) from error
        if len(data) < nbytes:
            raise PackDamaged(self.where, offset, _ends_early(nbytes - len(data)))
        return data

    def forget_cached(self) -> None:
        """Have the next read come from the disk and not from the page cache."""
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def index(self) -> list[PackedBlob]:
        """What the pack holds; raises PackDamaged."""
        head = self.read(0, pack_format.HEADER.size)
        pack_format.check_header(head, self.name, self.where)
        nbytes = self.nbytes
        at = max(0, nbytes - pack_format.TRAILER.size)
        trailer = self.read(at, nbytes - at)
        offset, length, index_sum = pack_format.locate_index(trailer, head, nbytes, self.where)
        return pack_format.decode_index(self.read(offset, length), index_sum, self.name, offset, self.where)


class Part(NamedTuple):
    """Bytes of a pack from `offset` on, as many as `into` takes."""

    pack: PackFile
    offset: int
    into: memoryview


def read_parts(parts: Sequence[Part], resident: Sequence[memoryview] = ()) -> None:
    """Fill the buffers of all parts; raises PackDamaged for the first where the disk fails or the pack ends before.

    The interpreter is free meanwhile, once for all: a thread that gives it up and wants it back waits for the others.
    Writable buffers in `resident` get all of their memory while the disk works.
    """
    failed = _native.read_ranges([(part.pack.fd, part.offset, part.into) for part in parts], resident)
    if failed is not None:
        position, left, error = failed
        pack, offset, _ = parts[position]
        raise PackDamaged(pack.where, offset, _cannot_be_read(error) if error else _ends_early(left))


def _cannot_be_read(error: int | None) -> str:
    return f"cannot be read: {os.strerror(error or errno.EIO)}"


def _ends_early(missing_nbytes: int) -> str:
    return f"ends {missing_nbytes} bytes too early"


class PackDirectory:
    """The packs of a store, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._open: OrderedDict[PackName, PackFile] = OrderedDict()

    def path_of(self, name: PackName) -> Path:
        return self.path / (name.hex() + SUFFIX)

    def open(self, name: PackName) -> PackFile:
        """Raises FileNotFoundError where the pack is gone (the caller then looks up the blob again), Damaged,
        NotAllowed.
        """
        with self._lock:
            file = self._open.get(name)
            if file is not None and file.deleted:
                del self._open[name]  # or the space of a collected pack would not be freed
                file = None
            if file is not None:
                self._open.move_to_end(name)
                return file
            path = self.path_of(name)
            file = PackFile(name, open_file(path), str(path))
            self._keep(file)
            return file

    def adopt(self, file: PackFile) -> None:
        """Make a pack that is still being written readable under its name."""
        with self._lock:
            self._keep(file)

    def forget_deleted(self) -> None:
        """Let go of packs that another process has collected."""
        with self._lock:
            for name in [name for name, file in self._open.items() if file.deleted]:
                del self._open[name]

    def forget(self, name: PackName) -> None:
        with self._lock:
            self._open.pop(name, None)

    def _keep(self, file: PackFile) -> None:
        self._open[file.name] = file
        while len(self._open) > _IDLE_FILES:
            self._open.popitem(last=False)

    def names(self) -> Iterator[PackName]:
        """Every finished pack on disk, in no order."""
        for path in self.path.iterdir():
            if path.name.endswith(SUFFIX):
                try:
                    name = bytes.fromhex(path.name.removesuffix(SUFFIX))
                except ValueError:
                    continue
                if len(name) == 16:
                    yield PackName(name)

    def parts(self) -> Iterator[Path]:
        """Packs whose writing was never finished. Only the holder of the pack lock may delete them."""
        return (path for path in self.path.iterdir() if path.name.endswith(PART_SUFFIX))

    def unlink(self, name: PackName) -> None:
        self.forget(name)
        self.path_of(name).unlink(missing_ok=True)


class PackWriter:
    """A pack being written. Blobs are appended one after the other, each frame by frame.

    Ends with `publish`, or with `abandon`, which removes every trace.
    """

    def __init__(self, directory: PackDirectory) -> None:
        self._directory = directory
        self.name = PackName(os.urandom(16))
        self._part = directory.path / (self.name.hex() + PART_SUFFIX)
        self._fd = create_file(self._part)
        directory.adopt(PackFile(self.name, os.dup(self._fd), str(self._part)))
        self._offset = 0
        self._start = 0
        self._written_back = 0
        self._frames: list[int] = []
        self._sum = xxhash.xxh3_64()
        self.blobs: list[PackedBlob] = []
        self.published = False
        """Whether the pack has its name: then a catalog may refer to it."""
        self._write(pack_format.header(self.name))

    @property
    def nbytes(self) -> int:
        return self._offset

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._offset)
            self._offset += written
            view = view[written:]
        if self._offset - self._written_back >= _WRITTEN_BACK_NBYTES:
            # Has the kernel begin to write, so that `sync`, which nothing can interrupt, does not have it all to do.
            os.posix_fadvise(self._fd, self._written_back, self._offset - self._written_back, os.POSIX_FADV_DONTNEED)
            self._written_back = self._offset

    def begin_blob(self) -> None:
        self._start = self._offset
        self._frames = []
        self._sum = xxhash.xxh3_64()

    def append_frame(self, frame: bytes | memoryview) -> None:
        self._write(frame)
        self._frames.append(len(frame))
        self._sum.update(frame)

    def drop_blob(self) -> None:
        """Take back the frames appended since `begin_blob`."""
        self._offset = self._start

    def end_blob(
        self,
        blob_id: BlobId,
        nbytes: int,
        fingerprint: bytes,
        dtype: str,
        shape: tuple[int, ...],
        base: BaseRef | None,
    ) -> Blob:
        """List the frames appended since `begin_blob` as a blob of `nbytes` raw bytes."""
        frames = np.array(self._frames, np.uint32)
        blob = Blob(blob_id, nbytes, fingerprint, dtype, shape, base, self.name, self._start, frames)
        self.blobs.append(PackedBlob(blob, self._sum.intdigest()))
        return blob

    def copy_blob(self, packed: PackedBlob, source: PackFile, passed: Callable[[int], None]) -> Blob:
        """Append a blob of another pack as it is stored; raises PackDamaged unless its stored bytes are intact.

        `passed` is told of the bytes of each frame.
        """
        blob = packed.blob
        self.begin_blob()
        at = blob.pack_offset
        for nbytes in blob.frames.tolist():
            self.append_frame(source.read(at, nbytes))
            at += nbytes
            passed(nbytes)
        if self._sum.intdigest() != packed.stored_sum:
            raise PackDamaged(
                source.where, blob.pack_offset, f"stored bytes of blob {blob.id} do not match their checksum"
            )
        moved = blob.moved(self.name, self._start)
        self.blobs.append(PackedBlob(moved, packed.stored_sum))
        return moved

    def rewind(self, count: int) -> None:
        """Take back all but the first `count` blobs."""
        self._offset = pack_format.HEADER.size
        del self.blobs[count:]
        if self.blobs:
            last = self.blobs[-1].blob
            self._offset = last.pack_offset + last.stored_nbytes
        self._written_back = min(self._written_back, self._offset)

    def sync(self) -> None:
        """Write index and trailer; on return the pack's bytes are on disk, still under its temporary name."""
        index = pack_format.encode_index(self.blobs)
        end = pack_format.trailer(self.name, self._offset, index)
        self._write(index)
        self._write(end)
        os.ftruncate(self._fd, self._offset)
        os.fsync(self._fd)

    @property
    def file(self) -> PackFile:
        """The pack as its readers see it."""
        return self._directory.open(self.name)

    def publish(self, fault_point: str) -> None:
        """Give the synced pack its name, durably."""
        self.published = True
        os.rename(self._part, self._directory.path_of(self.name))
        faults.point(fault_point)
        sync_directory(self._directory.path)
        self._directory.forget(self.name)
        self._close()

    def abandon(self) -> None:
        self._directory.forget(self.name)
        self._part.unlink(missing_ok=True)
        self._directory.path_of(self.name).unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
