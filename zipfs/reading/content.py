"""Opens the content of a file, in packs or in the spool: readable whatever happens to its names meanwhile.

Any thread may read; `read_cached` and `submit` never wait for a disk or a decoder and are what an event loop may call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from zipfs.errors import CatalogDamaged, Damaged
from zipfs.reading.reader import Reader
from zipfs.reading.windows import OpenFile, Window
from zipfs.store.catalog.queries import retrying
from zipfs.store.disk.files import open_file, read_at
from zipfs.store.frames.open_blob import OpenBlobs
from zipfs.store.objects.values import Inode, InodeId, State
from zipfs.store.store import Store

Bytes = bytes | memoryview

_CHUNK_NBYTES = 8 << 20


class Content(Protocol):
    """Bytes of a file. Reads are exact: shorter only where the file ends. Errors are ZipfsError."""

    @property
    def nbytes(self) -> int: ...

    def read(self, offset: int, nbytes: int) -> Bytes: ...

    def read_cached(self, offset: int, nbytes: int) -> Bytes | None:
        """Return bytes that are in memory; None where a disk access or decoding would be needed."""

    def submit(self, offset: int, nbytes: int) -> Future[Bytes]:
        """Read on other threads."""

    def again(self) -> Content:
        """Return this content for one user more, whatever has become of its file; closed on its own."""

    def close(self) -> None: ...


class StoredContent:
    """Content in packs. Takes over one use of the file."""

    def __init__(self, reader: Reader, inode_id: InodeId, file: OpenFile) -> None:
        self._reader = reader
        self._inode_id = inode_id
        self._file = file
        self.nbytes = file.slices.nbytes

    def read(self, offset: int, nbytes: int) -> Bytes:
        nbytes = max(0, min(nbytes, self.nbytes - offset))
        if nbytes <= _CHUNK_NBYTES:
            return self._read(offset, nbytes)
        whole = bytearray(nbytes)
        for at in range(0, nbytes, _CHUNK_NBYTES):
            part = self._read(offset + at, min(_CHUNK_NBYTES, nbytes - at))
            whole[at : at + len(part)] = part
        return memoryview(whole)

    def _read(self, offset: int, nbytes: int) -> Bytes:
        if not nbytes:
            return b""
        windows = self._decoded(offset, nbytes)
        while _in_parts(windows):
            windows = self._decoded(offset, nbytes)
        return self._reader.join(windows, offset, nbytes)

    def _decoded(self, offset: int, nbytes: int) -> list[Window]:
        windows, unclaimed = self._reader.claim(self._file, offset, nbytes)
        self._reader.follow(self._file, offset, nbytes)
        for window in unclaimed:
            self._reader.decode(window)
        self._reader.wait(windows)
        return windows

    def read_cached(self, offset: int, nbytes: int) -> Bytes | None:
        nbytes = max(0, min(nbytes, self.nbytes - offset))
        if not nbytes:
            return b""
        windows = self._reader.find(self._file, offset, nbytes)
        if windows is None:
            return None
        self._reader.follow(self._file, offset, nbytes)
        return self._reader.join(windows, offset, nbytes)

    def submit(self, offset: int, nbytes: int) -> Future[Bytes]:
        nbytes = max(0, min(nbytes, self.nbytes - offset))
        answer: Future[Bytes] = Future()
        answer.set_running_or_notify_cancel()  # one that was cancelled could not be answered
        if not nbytes:
            answer.set_result(b"")
            return answer
        self._start(answer, offset, nbytes)
        self._reader.follow(self._file, offset, nbytes)
        return answer

    def _start(self, answer: Future[Bytes], offset: int, nbytes: int) -> None:
        windows, unclaimed = self._reader.claim(self._file, offset, nbytes)
        for window in unclaimed:
            self._reader.run(self._reader.decode, window)
        self._reader.when_all(windows, partial(self._finish, answer, offset, nbytes, windows))

    def _finish(self, answer: Future[Bytes], offset: int, nbytes: int, windows: Sequence[Window]) -> None:
        try:
            if _in_parts(windows):
                self._start(answer, offset, nbytes)
            else:
                answer.set_result(self._reader.join(windows, offset, nbytes))
        except BaseException as error:  # noqa: BLE001  # whoever waits for the answer gets it
            answer.set_exception(error.with_traceback(None))  # which would refer to the windows

    def again(self) -> Content:
        self._reader.share_file(self._file)
        return StoredContent(self._reader, self._inode_id, self._file)

    def close(self) -> None:
        """Let go of the packs, if nobody else has the file open."""
        self._reader.close_file(self._inode_id, self._file)


def _in_parts(windows: Sequence[Window]) -> bool:
    """Return whether one has failed of which a part may be good: its slices get windows of their own the next time."""
    return any(window.error is not None and window.stop - window.first > 1 for window in windows)


class SpooledContent:
    """Content of a file that is not compressed yet. Takes over the file descriptor, unless `close` says what to do at
    the end instead of closing it.
    """

    def __init__(self, fd: int, where: str, reader: Reader, close: Callable[[], None] | None = None) -> None:
        self._fd = fd
        self._where = where
        self._reader = reader
        self._close = partial(os.close, fd) if close is None else close

    @property
    def nbytes(self) -> int:
        return self.stat().st_size

    def stat(self) -> os.stat_result:
        return os.fstat(self._fd)

    def read(self, offset: int, nbytes: int) -> bytes:
        try:
            return read_at(self._fd, offset, nbytes)
        except OSError as error:
            raise Damaged(self._where, f"cannot be read: {error.strerror}") from error

    def read_cached(self, offset: int, nbytes: int) -> Bytes | None:
        buffer = bytearray(nbytes)
        try:
            got = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise Damaged(self._where, f"cannot be read: {error.strerror}") from error
        # A short answer is either the end of the file or the end of what is in memory.
        return memoryview(buffer) if got == nbytes else None

    def submit(self, offset: int, nbytes: int) -> Future[Bytes]:
        return self._reader.run(self.read, offset, nbytes)

    def again(self) -> Content:
        return SpooledContent(os.dup(self._fd), self._where, self._reader)

    def close(self) -> None:
        self._close()


def open_content(store: Store, reader: Reader, inode: Inode) -> Content:
    """Open the content of a file, wherever it is by now. Raises Damaged, CatalogDamaged, NotFound."""

    def attempt() -> Content:
        with store.catalog.snapshot():
            current = store.catalog.inode(inode.id)
            extents = store.catalog.extents(current)
            blobs = store.catalog.blobs_of(current)
        if current.state is State.STORED:
            if missing := {extent.blob_id for extent in extents} - blobs.keys():
                raise CatalogDamaged(f"blob {min(missing)} is missing")
            packs = {name: store.packs.open(name) for name in blobs.packs}
            opened = OpenBlobs(blobs, packs)
            return StoredContent(reader, inode.id, reader.open_file(inode.id, extents, opened))
        # A spool file that vanishes here has just been compressed: the next look finds it STORED.
        path = store.spool_path(inode.id)
        return SpooledContent(open_file(path), str(path), reader)

    return retrying(attempt)
