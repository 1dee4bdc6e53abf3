"""Owns the bytes that a plan asks for: those of one file, compared with those of blobs.

Frames are compared on the threads of an executor, a bounded number at a time; everything else is for one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from zipfs.bases.similarity.alignment import PartialMatch
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.codec import encode_frame, frame_nbytes, item_nbytes
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.inspect import Inspector, SpanInspection
from zipfs.ingest.progress import FileProgress
from zipfs.store.frames.compare import same_bytes
from zipfs.store.frames.ordered import in_order
from zipfs.store.objects.values import Blob, BlobId, frame_count

_AGREEING = 0.75


@dataclass(frozen=True, slots=True)
class BlobReader:
    """A blob and its bytes: `read(offset, length)` may be called by any thread. It raises Damaged."""

    blob: Blob
    read: Callable[[int, int], memoryview]


class Blobs(Protocol):
    """Blobs that a file can be compared with: stored ones, and new ones that are not committed."""

    def reader(self, blob_id: BlobId) -> BlobReader:
        """Open a blob. Raises Damaged."""


@dataclass(frozen=True, slots=True)
class SourceContent:
    """The content of a source that is being inspected."""

    inspector: Inspector
    blobs: Blobs
    executor: Executor
    progress: FileProgress

    def inspect(self, span: Span) -> SpanInspection:
        return self.inspector.again(span)

    def features(self, found: SpanInspection) -> TensorFeatures | None:
        return self.inspector.features(found)

    def tensor(self, span: Span) -> SpanContent:
        return SpanContent(self.inspector, span, self.blobs)

    def has_bytes_of(self, span: Span, blob_id: BlobId, offset: int) -> bool:
        """Return whether a span has the very bytes of a blob from `offset` on. Raises Damaged, SourceError."""
        source, reader = self.inspector.source, self.blobs.reader(blob_id)
        step_nbytes = reader.blob.step_nbytes

        def same(index: int) -> bool:
            at = index * step_nbytes
            raw = source.read_exactly(span.offset + at, min(step_nbytes, span.nbytes - at))
            return same_bytes(reader.read(offset + at, len(raw)), raw)

        with in_order(self.executor, same, -(-span.nbytes // step_nbytes), span.nbytes) as frames:
            for is_same in frames:
                if not is_same:
                    return False
                self.progress.advance(0)
        return True


@dataclass(slots=True)
class SpanContent:
    """The content of one tensor of a source; it is a `TensorContent`."""

    inspector: Inspector
    span: Span
    blobs: Blobs
    _middle: bytes | None = field(default=None)

    def blob(self, blob_id: BlobId) -> Blob:
        return self.blobs.reader(blob_id).blob

    def coded_nbytes(self, blob_id: BlobId) -> float:
        """Code the frame in the middle of the tensor."""
        span = self.span
        step_nbytes = frame_nbytes(span.dtype)
        start = (frame_count(span.nbytes, span.dtype) - 1) // 2 * step_nbytes
        nbytes = min(step_nbytes, span.nbytes - start)
        try:
            theirs = self.blobs.reader(blob_id).read(start, nbytes)
        except Damaged:
            return math.inf
        if self._middle is None:
            self._middle = self.inspector.source.read_exactly(span.offset + start, nbytes)
        return len(encode_frame(self._middle, span.dtype, theirs, 0))

    def agrees(self, match: PartialMatch, start: int, stop: int) -> bool:
        source, reader = self.inspector.source, self.blobs.reader(BlobId(match.blob_id))
        width, base_width = item_nbytes(self.span.dtype), item_nbytes(reader.blob.dtype)
        mine = np.frombuffer(source.read_exactly(self.span.offset + start * width, (stop - start) * width), np.uint8)
        of_base = reader.read((start + match.distance) * base_width, (stop - start) * base_width)
        theirs = np.frombuffer(of_base, np.uint8)
        if match.equal:
            return bool(np.array_equal(mine, theirs))
        signs = (mine[width - 1 :: width] ^ theirs[base_width - 1 :: base_width]) < 0x80
        return bool(np.count_nonzero(signs) >= _AGREEING * signs.size)
