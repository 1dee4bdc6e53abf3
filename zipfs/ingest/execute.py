"""Owns the execution of a plan: shares and codes what each step says, into one pack, and verifies the pack.

Nothing is chosen here. Two things that a plan cannot know turn up while it is carried out, and both make a blob
standalone: its base is of no help in any frame, or cannot be read. Nothing of the pack is visible to anyone before it
is published. One thread drives it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.codec import FRAME_NBYTES
from zipfs.errors import Damaged
from zipfs.ingest.content import BlobReader
from zipfs.ingest.encode_blob import BlobEncoder
from zipfs.ingest.plan import Encode, Share, Step
from zipfs.ingest.progress import FileProgress
from zipfs.ingest.source import Source, SourceError
from zipfs.store.frames.compare import same_bytes
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.frames.ordered import in_order
from zipfs.store.objects.values import BaseRef, BlobId, Extent, frame_count
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.publish import NewPack
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_KEPT_OPEN = 256
"""Stored blobs: a base is looked at, weighed and coded against, one after the other."""


class SourcesChanged(Exception):
    """Sources changed after they were encoded, or cannot be read any more: nothing of the batch may be committed."""

    def __init__(self, changed: Sequence[tuple[Source, SourceError]]) -> None:
        super().__init__(*(error for _, error in changed))
        self.changed = changed


@dataclass(frozen=True, slots=True)
class _Written:
    """A blob of the new pack, and the raw bytes to compare it with."""

    open: OpenBlob
    source: Source
    offset: int


class PackExecution:
    """Carries steps out into a pack; what it has written is a candidate for the next steps."""

    def __init__(self, store: Store, executor: Executor, search: CandidateSearch) -> None:
        self._store = store
        self._executor = executor
        self._search = search
        self._pack: NewPack | None = None
        self._encoder: BlobEncoder | None = None
        self._written: dict[BlobId, _Written] = {}
        self._opened: dict[BlobId, OpenBlob] = {}

    @property
    def pack(self) -> NewPack | None:
        """Return the pack, if anything new had to be written."""
        return self._pack if self._written else None

    @property
    def blobs(self) -> int:
        """Return how many blobs have been written."""
        return len(self._written)

    def stored_nbytes(self, first: int) -> int:
        """Return what all but the first so many blobs take."""
        return sum(written.open.blob.stored_nbytes for written in list(self._written.values())[first:])

    def reader(self, blob_id: BlobId) -> BlobReader:
        """Open a blob to compare with it. Raises Damaged."""
        found, frames = self._open(blob_id), self._store.frames
        return BlobReader(found.blob, lambda offset, nbytes: frames.range(found, offset, nbytes))

    def _open(self, blob_id: BlobId) -> OpenBlob:
        """Open a blob; while the batch holds the pack lock nothing stored changes."""
        written = self._written.get(blob_id)
        if written is not None:
            return written.open
        found = self._opened.get(blob_id)
        if found is None:
            if len(self._opened) >= _KEPT_OPEN:
                self._opened.clear()
            found = self._opened[blob_id] = self._store.open_blob(blob_id)
        return found

    def carry_out(self, step: Step, source: Source, progress: FileProgress) -> Extent:
        """Carry out one step of the plan of a file. Raises SourceError, Damaged, Stopped, OSError."""
        span = step.span
        if isinstance(step, Share):
            progress.advance(span.nbytes)
            return Extent(span.offset, span.nbytes, step.blob_id, step.blob_offset)
        blob_id = self._write(step, source, step.choice.base, progress)
        return Extent(span.offset, span.nbytes, blob_id, 0)

    def _write(self, step: Encode, source: Source, reference: BaseRef | None, progress: FileProgress) -> BlobId:
        span, fingerprint = step.span, step.found.fingerprint
        base = None if reference is None else (self._open(reference.blob_id), reference.view)
        if self._pack is None:
            self._pack = NewPack(self._store, "ingest")
            self._encoder = BlobEncoder(self._pack.writer, self._store.frames, self._executor)
        assert self._encoder is not None
        blob_id = self._store.reserve_blob_id()

        def read_frame(index: int, nbytes: int) -> bytes:
            return source.read_exactly(span.offset + index * FRAME_NBYTES, nbytes)

        try:
            written = self._encoder.encode(
                blob_id, fingerprint, span.dtype, span.shape, span.nbytes, read_frame, base, progress.advance
            )
        except Damaged as error:
            if reference is None:
                raise
            # Frames coded standalone would not help: those who read them would still ask for the base.
            log.error("%s; %s is coded without it", error, source.shown)
            return self._write(step, source, None, progress)
        self._written[blob_id] = _Written(written, source, span.offset)
        self._search.add(written.blob, step.features, step.found.sample)
        return blob_id

    def take_back(self, count: int) -> None:
        """Forget all but the first `count` blobs: what was read of a file that changed meanwhile is of no use."""
        for blob_id in list(self._written)[count:]:
            del self._written[blob_id]
            self._search.forget(blob_id)
        if self._pack is not None:
            self._pack.writer.rewind(count)

    def verify(self, blobs: Sequence[PackedBlob]) -> None:
        """Read every new frame back from the pack, decode it, compare it with the raw bytes.

        Raises SourcesChanged, Damaged, Stopped.
        """
        changed: list[tuple[Source, SourceError]] = []
        for packed in blobs:
            written = self._written[packed.blob.id]
            if any(written.source is source for source, _ in changed):
                continue
            try:
                self._verify(written)
            except SourceError as error:
                changed.append((written.source, error))
        if changed:
            raise SourcesChanged(changed)

    def _verify(self, written: _Written) -> None:
        count = frame_count(written.open.blob.nbytes)
        with in_order(self._executor, self._comparing(written), count, written.open.blob.nbytes) as frames:
            for index, good in enumerate(frames):
                self._store.stop.check()
                written.source.check_wanted()
                if not good:
                    written.source.check_unchanged()
                    at = written.offset + index * FRAME_NBYTES
                    raise Damaged(written.source.shown, f"what was stored of it decodes to other bytes, at offset {at}")

    def _comparing(self, written: _Written) -> Callable[[int], bool]:
        def compare(index: int) -> bool:
            nbytes = written.open.blob.frame_nbytes(index)
            raw = written.source.read_exactly(written.offset + index * FRAME_NBYTES, nbytes)
            decoded = self._store.frames.decode(written.open, index)
            return same_bytes(decoded, raw)

        return compare

    def abandon(self) -> None:
        """Leave nothing behind, unless a catalog may refer to it."""
        if self._pack is not None:
            self._pack.give_up()
        self._written.clear()

    def close(self) -> None:
        """Let go of a pack that turned out to hold nothing."""
        if self._pack is not None and not self._written:
            self._pack.give_up()
