"""Decoded frames of blobs, kept in memory up to a budget.

A frame is decoded once however many threads ask for it at the same time. A frame that is coded against a base asks for
the base's bytes in turn; bases are coded alone, so the wait never goes further, and two threads cannot wait for each
other. A blob may be open in two forms, the one that it had and the one that it was given since, and what was a base may
be a member in the other one: so a wait is for a frame in a form, coded alone or not. Any thread may call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from zipfs.codec import FRAME_NBYTES, decode_frame
from zipfs.errors import FrameDamaged, PackDamaged
from zipfs.store.buffers import BufferPool
from zipfs.store.packs import PackDirectory, PackFile
from zipfs.store.rows import Blob, BlobId


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob, its base, and the packs that hold them, open: readable whatever is deleted or moved meanwhile."""

    blob: Blob
    pack: PackFile
    base: OpenBlob | None


def open_blob(packs: PackDirectory, blob: Blob, look_up: Callable[[BlobId], Blob]) -> OpenBlob:
    """Raises FileNotFoundError where a pack is gone (then `blob` is out of date: look it up again)."""
    base = None
    if blob.base is not None:
        base = open_blob(packs, look_up(blob.base.blob_id), look_up)
    return OpenBlob(blob, packs.open(blob.pack), base)


class FrameCache:
    """Least recently used frames, at most `budget_nbytes` of them."""

    def __init__(self, budget_nbytes: int) -> None:
        self._budget = budget_nbytes
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[BlobId, int], memoryview] = OrderedDict()
        self._nbytes = 0
        self._decoding: dict[tuple[BlobId, int, bool], Future[memoryview]] = {}
        self.buffers = BufferPool(FRAME_NBYTES)

    def cached(self, blob_id: BlobId, index: int) -> memoryview | None:
        """Frame `index` if it is in memory; never blocks for long."""
        with self._lock:
            frame = self._frames.get((blob_id, index))
            if frame is not None:
                self._frames.move_to_end((blob_id, index))
            return frame

    def frame(self, source: OpenBlob, index: int) -> memoryview:
        """Decoded bytes of frame `index`, read-only. Raises PackDamaged."""
        key = (source.blob.id, index)
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
                return frame
            mine: Future[memoryview] = Future()
            form = (*key, source.base is None)
            underway = self._decoding.setdefault(form, mine)
        if underway is not mine:
            return underway.result()
        try:
            frame = self.decode(source, index)
        except BaseException as error:
            with self._lock:
                del self._decoding[form]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._decoding[form]
            if key not in self._frames:
                self._frames[key] = frame
                self._nbytes += len(frame)
            while self._nbytes > self._budget and len(self._frames) > 1:
                _, oldest = self._frames.popitem(last=False)
                self._nbytes -= len(oldest)
                self.buffers.keep(oldest)
        mine.set_result(frame)
        return frame

    def decode(self, source: OpenBlob, index: int) -> memoryview:
        """The same, read from the pack even if the frame is in memory; it is not kept in the cache."""
        blob = source.blob
        at = blob.pack_offset + int(blob.frames[:index].sum(dtype="u8"))
        stored = source.pack.read(at, int(blob.frames[index]))
        out = self.buffers.take(blob.frame_nbytes(index))
        base = None
        if source.base is not None and blob.base is not None:
            base = self.range(source.base, blob.base.offset + index * FRAME_NBYTES, len(out))
        try:
            decode_frame(stored, out, base, blob.frame_seed(index))
        except FrameDamaged as error:
            raise PackDamaged(source.pack.where, at, f"frame {index} of blob {blob.id}: {error.args[0]}") from error
        return out.toreadonly()

    def range(self, source: OpenBlob, offset: int, nbytes: int) -> memoryview:
        """Bytes [offset, offset + nbytes) of a blob, cut off at its end; copied only across a border of frames."""
        nbytes = max(0, min(nbytes, source.blob.nbytes - offset))
        first, start = divmod(offset, FRAME_NBYTES)
        if start + nbytes <= FRAME_NBYTES:
            return self.frame(source, first)[start : start + nbytes] if nbytes else memoryview(b"")
        out = self.buffers.take(nbytes)
        self.buffers.keep(out)
        at = 0
        while at < nbytes:
            index, start = divmod(offset + at, FRAME_NBYTES)
            piece = self.frame(source, index)[start : start + nbytes - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
        return out.toreadonly()
