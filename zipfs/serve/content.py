"""The content of one file, opened: from packs or from the spool, readable whatever happens to its names meanwhile.

Any thread may read; `read_cached` never waits for a disk or a decoder and is what an event loop may call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Protocol

from zipfs.errors import CatalogDamaged, Damaged
from zipfs.serve.plan import Piece, plan_range
from zipfs.store.blobs import FrameCache, OpenBlob, open_blob
from zipfs.store.catalog import retrying
from zipfs.store.files import read_at
from zipfs.store.rows import Blob, BlobId, Extent, Inode, State
from zipfs.store.store import Store


class Content(Protocol):
    """Bytes of a file. Reads are exact: shorter only where the file ends. Errors are ZipfsError."""

    @property
    def nbytes(self) -> int: ...

    def read(self, offset: int, nbytes: int) -> bytes | memoryview: ...

    def read_cached(self, offset: int, nbytes: int) -> bytes | memoryview | None:
        """The same, or None where that would take a disk access or decoding."""

    def close(self) -> None: ...


class StoredContent:
    """Content in packs, whose files it keeps open."""

    def __init__(self, extents: Sequence[Extent], blobs: dict[BlobId, OpenBlob], frames: FrameCache) -> None:
        self._extents = extents
        self._blobs = blobs
        self._frames = frames
        self.nbytes = extents[-1].offset + extents[-1].nbytes if extents else 0

    def read(self, offset: int, nbytes: int) -> bytes | memoryview:
        pieces = plan_range(self._extents, offset, nbytes)
        return self._join([self._piece(piece) for piece in pieces])

    def read_cached(self, offset: int, nbytes: int) -> bytes | memoryview | None:
        parts = []
        for piece in plan_range(self._extents, offset, nbytes):
            frame = self._frames.cached(piece.blob_id, piece.index)
            if frame is None:
                return None
            parts.append(frame[piece.start : piece.start + piece.nbytes])
        return self._join(parts)

    def _join(self, parts: list[memoryview]) -> bytes | memoryview:
        if len(parts) == 1:
            return parts[0]
        out = self._frames.buffers.take(sum(map(len, parts)))
        self._frames.buffers.keep(out)
        at = 0
        for part in parts:
            out[at : at + len(part)] = part
            at += len(part)
        return out

    def _piece(self, piece: Piece) -> memoryview:
        frame = self._frames.frame(self._blobs[piece.blob_id], piece.index)
        part = frame[piece.start : piece.start + piece.nbytes]
        if len(part) != piece.nbytes:
            raise Damaged(f"blob {piece.blob_id}", f"an extent goes beyond its end, in frame {piece.index}")
        return part

    def close(self) -> None:
        """Lets go of the packs."""
        self._blobs = {}


class SpooledContent:
    """Content of a file that is not compressed yet. Takes over the file descriptor."""

    def __init__(self, fd: int, where: str) -> None:
        self._fd = fd
        self._where = where

    @property
    def nbytes(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, offset: int, nbytes: int) -> bytes:
        try:
            return read_at(self._fd, offset, nbytes)
        except OSError as error:
            raise Damaged(self._where, f"cannot be read: {error.strerror}") from error

    def read_cached(self, offset: int, nbytes: int) -> bytes | memoryview | None:
        buffer = bytearray(nbytes)
        try:
            got = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise Damaged(self._where, f"cannot be read: {error.strerror}") from error
        # A short answer is either the end of the file or the end of what is in memory.
        return memoryview(buffer) if got == nbytes else None

    def close(self) -> None:
        os.close(self._fd)


def open_content(store: Store, inode: Inode) -> Content:
    """Open the content of a file, wherever it is by now. Raises Damaged, CatalogDamaged, NotFound."""

    def attempt() -> Content:
        with store.catalog.snapshot():
            current = store.catalog.inode(inode.id)
            extents = store.catalog.extents(current)
            blobs = store.catalog.blobs_of(current)
        if current.state is State.STORED:

            def look_up(blob_id: BlobId) -> Blob:
                if blob_id not in blobs:
                    raise CatalogDamaged(f"blob {blob_id} is missing")
                return blobs[blob_id]

            needed = {extent.blob_id for extent in extents}
            opened = {blob_id: open_blob(store.packs, look_up(blob_id), look_up) for blob_id in needed}
            return StoredContent(extents, opened, store.frames)
        # A spool file that vanishes here has just been compressed: the next look finds it STORED.
        path = store.spool_path(inode.id)
        return SpooledContent(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))

    return retrying(attempt)
