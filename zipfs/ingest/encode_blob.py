"""Owns the encoding of one blob into a pack: frames are coded on the threads of an executor and appended in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from zipfs.codec import FRAME_NBYTES, encode_frame, read_header
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import OpenBlob, opened
from zipfs.store.frames.ordered import in_order
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, BlobId, frame_count, frame_seed
from zipfs.store.packs.writer import PackWriter


class BlobEncoder:
    """Encodes blobs, one after the other, into one pack."""

    def __init__(self, writer: PackWriter, frames: FrameCache, executor: Executor) -> None:
        self._writer = writer
        self._frames = frames
        self._executor = executor

    def encode(
        self,
        blob_id: BlobId,
        fingerprint: bytes,
        dtype: str,
        shape: Sequence[int],
        nbytes: int,
        read_frame: Callable[[int, int], bytes | memoryview],
        base: tuple[OpenBlob, View] | None,
        passed: Callable[[int], None],
    ) -> OpenBlob:
        """Encode a blob against a view of a base, which it does not get if that is of no help in any frame.

        `read_frame(index, length)` returns its raw bytes; any thread may call it. `passed` is told of the raw bytes of
        each frame. Nothing is left of the blob when one of them, or the base, raises: then this raises the same.
        """

        def coded(index: int) -> bytes:
            at = index * FRAME_NBYTES
            raw = read_frame(index, min(FRAME_NBYTES, nbytes - at))
            against = None if base is None else self._frames.view(*base, at, len(raw))
            return encode_frame(raw, dtype, against, frame_seed(blob_id, index))

        writer = self._writer
        writer.begin_blob()
        base_helped = False
        try:
            with in_order(self._executor, coded, frame_count(nbytes), nbytes) as frames:
                for index, frame in enumerate(frames):
                    writer.append_frame(frame)
                    base_helped = base_helped or read_header(frame).needs_base
                    passed(min(FRAME_NBYTES, nbytes - index * FRAME_NBYTES))
        except BaseException:
            writer.drop_blob()
            raise
        used = base if base_helped else None
        reference = None if used is None else BaseRef(used[0].blob.id, used[1])
        blob = writer.end_blob(blob_id, nbytes, fingerprint, dtype, tuple(shape), reference)
        return opened(blob, writer.file, None if used is None else used[0])
