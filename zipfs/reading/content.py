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
from zipfs.store.catalog.blob_queries import BlobRows
from zipfs.store.catalog.queries import retrying
from zipfs.store.disk.files import open_file, read_at
from zipfs.store.frames.open_blob import OpenBlobs
from zipfs.store.frames.overlay import Older, check_holes, is_hole, ranges, read_over
from zipfs.store.objects.values import Extent, Inode, State
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

    def __init__(self, reader: Reader, file: OpenFile) -> None:
        self._reader = reader
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

    def again(self) -> StoredContent:
        self._reader.share_file(self._file)
        return StoredContent(self._reader, self._file)

    def close(self) -> None:
        """Let go of the packs, if nobody else has the file open."""
        self._reader.close_file(self._file)


def _in_parts(windows: Sequence[Window]) -> bool:
    """Return whether one has failed of which a part may be good: its slices get windows of their own the next time."""
    return any(window.error is not None and window.stop - window.first > 1 for window in windows)


class OlderVersion(Older):
    """The stored content that shows through the holes of a spool file. Takes over one use of it."""

    content: StoredContent

    def read_cached(self, offset: int, nbytes: int) -> Bytes | None:
        """Return bytes that are in memory, all of which show through."""
        return self.content.read_cached(offset, nbytes)

    def submit(self, offset: int, nbytes: int) -> Future[Bytes]:
        """Read bytes on other threads, all of which show through."""
        return self.content.submit(offset, nbytes)

    def again(self) -> OlderVersion:
        """Return it for one user more, closed on its own."""
        other = OlderVersion(self.content.again())
        other.clip(self.nbytes)
        return other

    def close(self) -> None:
        self.content.close()


class SpooledContent:
    """Content of a file that is not compressed yet. Takes over the file descriptor and the older version that shows
    through the holes of the file, unless `close` says what to do at the end instead of closing both.
    """

    def __init__(
        self,
        fd: int,
        where: str,
        reader: Reader,
        older: OlderVersion | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._fd = fd
        self._where = where
        self._reader = reader
        self._older = older
        self._close = self._close_both if close is None else close

    def _close_both(self) -> None:
        os.close(self._fd)
        if self._older is not None:
            self._older.close()

    @property
    def nbytes(self) -> int:
        return self.stat().st_size

    def stat(self) -> os.stat_result:
        return os.fstat(self._fd)

    def read(self, offset: int, nbytes: int) -> Bytes:
        try:
            if self._older is not None and self._older.nbytes > offset:
                return read_over(self._fd, self._older, offset, nbytes)
            return read_at(self._fd, offset, nbytes)
        except OSError as error:
            raise Damaged(self._where, f"cannot be read: {error.strerror}") from error

    def read_cached(self, offset: int, nbytes: int) -> Bytes | None:
        buffer = bytearray(nbytes)
        try:
            if self._older is not None and self._older.nbytes > offset:
                stop = min(offset + nbytes, self._older.nbytes)
                if is_hole(self._fd, offset, stop):
                    return self._older.read_cached(offset, nbytes) if stop == offset + nbytes else None
                if any(hole for _, _, hole in ranges(self._fd, offset, stop)):
                    return None
            got = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise Damaged(self._where, f"cannot be read: {error.strerror}") from error
        # A short answer is either the end of the file or the end of what is in memory.
        return memoryview(buffer) if got == nbytes else None

    def submit(self, offset: int, nbytes: int) -> Future[Bytes]:
        older = self._older
        if older is not None and offset + nbytes <= older.nbytes and is_hole(self._fd, offset, offset + nbytes):
            return older.submit(offset, nbytes)
        return self._reader.run(self.read, offset, nbytes)

    def again(self) -> Content:
        older = None if self._older is None else self._older.again()
        return SpooledContent(os.dup(self._fd), self._where, self._reader, older)

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
            return _open_stored(store, reader, current, extents, blobs)
        # A spool file that vanishes here has just been compressed: the next look finds it STORED.
        path = store.spool_path(current)
        fd = open_file(path)
        try:
            if extents:
                check_holes(fd, path)
            older = OlderVersion(_open_stored(store, reader, current, extents, blobs)) if extents else None
        except BaseException:
            os.close(fd)
            raise
        return SpooledContent(fd, str(path), reader, older)

    return retrying(attempt)


def open_older(store: Store, reader: Reader, inode: Inode) -> OlderVersion | None:
    """Open what shows through the holes of a spool file; None where nothing does. Raises as `open_content` does."""

    def attempt() -> OlderVersion | None:
        with store.catalog.snapshot():
            extents = store.catalog.extents(inode)
            blobs = store.catalog.blobs_of(inode)
        return OlderVersion(_open_stored(store, reader, inode, extents, blobs)) if extents else None

    return retrying(attempt)


def _open_stored(
    store: Store, reader: Reader, inode: Inode, extents: Sequence[Extent], blobs: BlobRows
) -> StoredContent:
    if missing := {extent.blob_id for extent in extents} - blobs.keys():
        raise CatalogDamaged(f"blob {min(missing)} is missing")
    packs = {name: store.packs.open(name) for name in blobs.packs}
    opened = OpenBlobs(blobs, packs)
    return StoredContent(reader, reader.open_file(inode.id, inode.layout_sum, extents, opened))
