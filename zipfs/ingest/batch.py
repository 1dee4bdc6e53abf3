"""One batch: several files that become one pack. Finds what is stored already, chooses bases, encodes, verifies.

Nothing of a batch is visible to anyone before `Pipeline` commits it. One thread drives a batch; frames are coded on the
threads of an executor, a bounded number at a time, and appended in order.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import xxhash

from zipfs.codec import FRAME_NBYTES, encode_frame, read_header
from zipfs.errors import Damaged
from zipfs.formats import Span, lay_out
from zipfs.ingest.ordered import in_order
from zipfs.ingest.progress import Progress
from zipfs.ingest.source import Source, SourceError, StoredFile
from zipfs.lineage import LEAST_NBYTES, Search, choose_base, signature, sketch
from zipfs.lineage.opening import KIN, is_poor, worth_opening
from zipfs.store.blobs import OpenBlob
from zipfs.store.packs import PackWriter
from zipfs.store.rows import BaseRef, Blob, BlobId, Extent, frame_count, frame_seed
from zipfs.store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _New:
    """A blob that this batch has written, and the raw bytes to compare it with."""

    open: OpenBlob
    source: Source
    offset: int


class Batch:
    """See the module. `files` lists what can be committed after `verify`."""

    def __init__(self, store: Store, executor: Executor, progress: Progress, search: Search) -> None:
        self._store = store
        self._search = search
        self._executor = executor
        self._progress = progress
        self._writer: PackWriter | None = None
        self._new: dict[BlobId, _New] = {}
        self._by_fingerprint: dict[tuple[bytes, int], list[BlobId]] = defaultdict(list)
        self.sketches: dict[BlobId, tuple[bytes, bytes]] = {}
        """Sketch and signature of each new tensor."""
        self.files: list[tuple[Source, StoredFile]] = []

    @property
    def writer(self) -> PackWriter | None:
        """The pack, if anything new had to be written."""
        return self._writer if self._new else None

    def add(self, source: Source) -> None:
        """Store one file, or nothing of it; the caller has opened the source. Raises SourceError, Damaged, OSError."""
        count = len(self._new)
        try:
            self._add(source)
        except SourceError:
            self._take_back(count)
            raise

    def _take_back(self, count: int) -> None:
        """Forget all but the first `count` blobs: what was read of a file that changed meanwhile is of no use."""
        for blob_id in list(self._new)[count:]:
            blob = self._new.pop(blob_id).open.blob
            self.sketches.pop(blob_id, None)
            self._by_fingerprint[blob.fingerprint, blob.nbytes].remove(blob_id)
            self._search.forget(blob_id)
        if self._writer is not None:
            self._writer.rewind(count)

    def _add(self, source: Source) -> None:
        layout = lay_out(source.name, source.read, source.nbytes)
        sha256 = hashlib.sha256()
        extents = []
        stored_nbytes = 0
        for span in layout.spans:
            fingerprint = self._fingerprint(source, span, sha256)
            blob_id = self._find_same(source, span, fingerprint)
            if blob_id is None:
                blob = self._write_new(source, span, fingerprint)
                blob_id = blob.id
                stored_nbytes += blob.stored_nbytes
            else:
                self._progress.advanced(span.nbytes)
            extents.append(Extent(span.offset, span.nbytes, blob_id, 0))
        source.check_unchanged()
        self.files.append((source, StoredFile(source.nbytes, tuple(extents), sha256.digest(), stored_nbytes)))

    def _fingerprint(self, source: Source, span: Span, sha256: hashlib._Hash) -> bytes:
        """XXH3-128 of the span; the file's SHA-256 is fed in the same pass."""
        fingerprint = xxhash.xxh3_128()
        for at in range(0, span.nbytes, FRAME_NBYTES):
            data = source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            fingerprint.update(data)
            sha256.update(data)
            self._progress.advanced(len(data))
        return fingerprint.digest()

    # Deduplication

    def _find_same(self, source: Source, span: Span, fingerprint: bytes) -> BlobId | None:
        """A blob with the very bytes of the span: the fingerprint finds it, a comparison decides."""
        for blob_id in self._by_fingerprint[fingerprint, span.nbytes]:
            if self._is_same(source, span, self._new[blob_id].open):
                return blob_id
        for blob in self._store.catalog.blobs_by_fingerprint(fingerprint, span.nbytes):
            try:
                if self._is_same(source, span, self._store.open_blob(blob.id)):
                    return blob.id
            except Damaged:
                continue  # a copy that cannot be read is no reason to refuse a good one
        return None

    def _is_same(self, source: Source, span: Span, stored: OpenBlob) -> bool:
        def same(index: int) -> bool:
            at = index * FRAME_NBYTES
            raw = source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            return same_bytes(self._store.frames.frame(stored, index), raw)

        return all(in_order(self._executor, same, frame_count(span.nbytes), span.nbytes))

    # Encoding

    def _write_new(self, source: Source, span: Span, fingerprint: bytes) -> Blob:
        sketched = self._sketch(source, span)
        base = None if sketched is None else self._choose_base(span, *sketched)
        if self._writer is None:
            self._writer = PackWriter(self._store.packs)
        writer = self._writer
        blob_id = self._store.reserve_blob_id()

        def encode(index: int) -> bytes:
            at = index * FRAME_NBYTES
            raw = source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            against = None if base is None else self._base_bytes(base, at, len(raw))
            return encode_frame(raw, span.dtype, against, frame_seed(blob_id, index))

        writer.begin_blob()
        base_helped = False
        try:
            for index, frame in enumerate(in_order(self._executor, encode, frame_count(span.nbytes), span.nbytes)):
                writer.append_frame(frame)
                base_helped = base_helped or read_header(frame).needs_base
                self._progress.advanced(min(FRAME_NBYTES, span.nbytes - index * FRAME_NBYTES))
        except BaseException:
            writer.drop_blob()
            raise
        if not base_helped:
            base = None
        reference = None if base is None else BaseRef(base.blob.id)
        blob = writer.end_blob(blob_id, span.nbytes, fingerprint, span.dtype, span.shape, reference)
        self._new[blob_id] = _New(OpenBlob(blob, writer.file, base), source, span.offset)
        self._by_fingerprint[fingerprint, span.nbytes].append(blob_id)
        if sketched is not None:
            self.sketches[blob_id] = sketched
            self._search.add(blob_id, span.dtype, span.nbytes, *sketched, None if base is None else base.blob.id)
        return blob

    def _base_bytes(self, base: OpenBlob, offset: int, nbytes: int) -> memoryview | None:
        try:
            return self._store.frames.range(base, offset, nbytes)
        except Damaged as error:
            log.error("%s; the frame is coded alone instead", error)
            return None

    def _sketch(self, source: Source, span: Span) -> tuple[bytes, bytes] | None:
        """Sketch and signature of a tensor; None for plain bytes."""
        if not span.dtype or span.nbytes < LEAST_NBYTES:
            return None
        if span.nbytes <= FRAME_NBYTES:  # one copy takes less time than many short reads
            whole = source.read_exactly(span.offset, span.nbytes)
            mine = sketch(lambda offset, nbytes: whole[offset : offset + nbytes], span.nbytes, span.dtype)
        else:
            mine = sketch(lambda offset, nbytes: source.read(span.offset + offset, nbytes), span.nbytes, span.dtype)
        return mine, signature(mine, span.dtype)

    def _choose_base(self, span: Span, mine: bytes, signed: bytes) -> OpenBlob | None:
        """The best base for a tensor with this sketch and signature; None if it is to be coded alone."""
        candidates = self._search.near(span.dtype, span.nbytes, signed)
        choice = choose_base(mine, span.nbytes, span.dtype, candidates)
        if choice is None:
            return None
        if is_poor(choice):
            kin = self._search.kin(choice.blob_id, span.nbytes, signed, KIN)
            if worth_opening(mine, span.nbytes, span.dtype, choice, dict(candidates)[choice.blob_id], kin):
                return None
        blob_id = BlobId(choice.blob_id)
        if blob_id in self._new:
            return self._new[blob_id].open
        try:
            return self._store.open_blob(blob_id)
        except Damaged as error:
            log.error("%s; the tensor is coded alone instead", error)
            return None

    # Verification

    def sync(self) -> None:
        """Write the pack to the disk, under its temporary name."""
        if self.writer is not None:
            self.writer.sync()

    def verify(self) -> list[tuple[Source, SourceError]]:
        """Read every new frame back from the pack, decode it, compare it with the raw bytes.

        Returns the sources that changed or cannot be read any more, and then nothing of the batch may be committed.
        Raises Damaged.
        """
        changed: list[tuple[Source, SourceError]] = []
        if self.writer is None:
            return changed
        self.writer.file.forget_cached()
        for new in self._new.values():
            if any(new.source is source for source, _ in changed):
                continue
            try:
                self._verify(new)
            except SourceError as error:
                changed.append((new.source, error))
        return changed

    def _verify(self, new: _New) -> None:
        count = frame_count(new.open.blob.nbytes)
        for index, good in enumerate(in_order(self._executor, self._comparing(new), count, new.open.blob.nbytes)):
            if not good:
                new.source.check_unchanged()
                at = new.offset + index * FRAME_NBYTES
                raise Damaged(new.source.shown, f"what was stored of it decodes to other bytes, at offset {at}")

    def _comparing(self, new: _New) -> Callable[[int], bool]:
        def compare(index: int) -> bool:
            raw = new.source.read_exactly(new.offset + index * FRAME_NBYTES, new.open.blob.frame_nbytes(index))
            decoded = self._store.frames.decode(new.open, index)
            self._store.frames.buffers.keep(decoded)
            return same_bytes(decoded, raw)

        return compare

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        self._new.clear()

    def close(self) -> None:
        """Let go of a pack that turned out to hold nothing."""
        if self._writer is not None and not self._new:
            self._writer.abandon()


def same_bytes(one: memoryview | bytes, other: memoryview | bytes) -> bool:
    """Compared without holding the GIL, as memoryview's own comparison would."""
    return bool(np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)))
