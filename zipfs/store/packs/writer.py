"""A pack being written: blobs one after the other, each frame by frame, and the index that ends it."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import xxhash

from zipfs.store.objects.values import BaseRef, Blob, BlobId, PackName
from zipfs.store.packs import pack_format
from zipfs.store.packs.backend import PackBackend
from zipfs.store.packs.file import PackFile, stored_sum_differs
from zipfs.store.packs.pack_format import PackedBlob


class PackWriter:
    """A new pack. Used by one thread at a time; ends with `finish`, or with `abandon`, which removes every trace."""

    def __init__(self, backend: PackBackend) -> None:
        self._backend = backend
        self.name = PackName(os.urandom(16))
        self._part = backend.begin(self.name)
        self._start = 0
        self._frames: list[int] = []
        self._sum = xxhash.xxh3_64()
        self.blobs: list[PackedBlob] = []
        self.named = False
        """Whether the pack may have its name: then a catalog may refer to it."""
        try:
            self._part.append(pack_format.header(self.name))
        except BaseException:  # a full disk has room for a name, and none for a byte
            self._part.discard()
            raise

    @property
    def nbytes(self) -> int:
        return self._part.nbytes

    @property
    def on_disk_nbytes(self) -> int:
        """Return how much of the pack a read brings back from where it is kept, and not from memory."""
        return self._part.on_disk_nbytes

    @property
    def file(self) -> PackFile:
        """Return the pack as it is so far. Not for use after `finish` or `abandon`."""
        return self._part.file

    def begin_blob(self) -> None:
        self._start = self._part.nbytes
        self._frames = []
        self._sum = xxhash.xxh3_64()

    def append_frame(self, frame: bytes | memoryview) -> None:
        self._part.append(frame)
        self._frames.append(len(frame))
        self._sum.update(frame)

    def drop_blob(self) -> None:
        """Take back the frames appended since `begin_blob`."""
        self._part.truncate(self._start)

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
        """Append a blob of another pack as it is stored; raise PackDamaged unless its stored bytes are intact.

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
            raise stored_sum_differs(source, packed)
        moved = blob.moved(self.name, self._start)
        self.blobs.append(PackedBlob(moved, packed.stored_sum))
        return moved

    def rewind(self, count: int) -> None:
        """Take back all but the first `count` blobs."""
        del self.blobs[count:]
        end = pack_format.HEADER.size
        if self.blobs:
            last = self.blobs[-1].blob
            end = last.pack_offset + last.stored_nbytes
        self._part.truncate(end)

    def sync(self) -> None:
        """Append index and trailer; on return all bytes of the pack are durable, and nobody finds it yet."""
        index = pack_format.encode_index(self.blobs)
        end = pack_format.trailer(self.name, self._part.nbytes, index)
        self._part.append(index)
        self._part.append(end)
        self._part.sync()

    def finish(self, named: Callable[[], None]) -> None:
        """Give the synced pack its name, durably. Calls `named` in between, as soon as a reader may find it."""
        self.named = True
        try:
            self._part.finish(named)
        except FileExistsError:
            self.named = False  # what has that name is another one
            raise

    def abandon(self) -> None:
        """Remove every trace of the pack."""
        self._part.discard()
        if self.named:
            self._backend.delete(self.name)
