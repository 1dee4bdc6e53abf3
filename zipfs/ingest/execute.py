"""Owns the execution of a plan: shares and codes what each step says, into one pack, and verifies the pack.

Nothing is chosen here. Two things that a plan cannot know turn up while it is carried out, and both make a blob
standalone: its base is of no help in any frame, or cannot be read. Nothing of the pack is visible to anyone before it
is published. A step is begun when it is carried out: what it needs of earlier ones it waits for. One thread drives it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.codec import frame_nbytes
from zipfs.errors import Damaged
from zipfs.ingest.content import BlobReader
from zipfs.ingest.encode_blob import BlobEncoder, BlobInWork
from zipfs.ingest.plan import Encode, Share, Step
from zipfs.ingest.progress import FileProgress
from zipfs.ingest.source import Source, SourceError
from zipfs.ingest.verify import SourcesChanged, StoredBlob, Verifier
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import Blob, BlobId, Extent
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.publish import NewPack
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_KEPT_OPEN = 256
"""Stored blobs: a base is looked at, weighed and coded against, one after the other."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A blob of the new pack, and where its raw bytes are."""

    work: BlobInWork
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
        self._verifier = Verifier(store.frames, executor, store.stop)
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
        """Return what all but the first so many blobs take, once all of them are coded. Raises as `carry_out`."""
        return sum(self._finished(written).blob.stored_nbytes for written in list(self._written.values())[first:])

    def reader(self, blob_id: BlobId) -> BlobReader:
        """Open a blob to compare with it. Raises Damaged."""
        found, frames = self._open(blob_id), self._store.frames
        return BlobReader(found.blob, lambda offset, nbytes: frames.range(found, offset, nbytes))

    def _open(self, blob_id: BlobId) -> OpenBlob:
        """Open a blob; while the batch holds the pack lock nothing stored changes."""
        written = self._written.get(blob_id)
        if written is not None:
            return self._finished(written)
        found = self._opened.get(blob_id)
        if found is None:
            if len(self._opened) >= _KEPT_OPEN:
                self._opened.clear()
            found = self._opened[blob_id] = self._store.open_blob(blob_id)
        return found

    def carry_out(self, step: Step, source: Source, progress: FileProgress) -> Extent:
        """Carry out one step of the plan of a file; a blob is coded while the next step is planned.

        What goes wrong with it is raised by this call or a later one for the same file: SourceError, Damaged, Stopped,
        OSError.
        """
        span = step.span
        if isinstance(step, Share):
            progress.advance(span.nbytes)
            return Extent(span.offset, span.nbytes, step.blob_id, step.blob_offset)
        blob_id = self._begin(step, source, progress)
        return Extent(span.offset, span.nbytes, blob_id, 0)

    def _begin(self, step: Encode, source: Source, progress: FileProgress) -> BlobId:
        span, found, reference = step.span, step.found, step.choice.base
        base = None if reference is None else (self._open(reference.blob_id), reference.view)
        if self._pack is None:
            self._pack = NewPack(self._store, "ingest")
            self._encoder = BlobEncoder(self._pack.writer, self._store.frames, self._executor, self._appended)
        encoder = self._encoder
        assert encoder is not None
        blob_id = self._store.reserve_blob_id()
        raw, step_nbytes = found.raw, frame_nbytes(span.dtype)

        def read_frame(index: int, nbytes: int) -> bytes:
            return source.read_exactly(span.offset + index * step_nbytes, nbytes) if raw is None else raw

        def base_damaged(error: Damaged) -> None:
            log.error("%s; %s is coded without it", error, source.shown)

        work = encoder.begin(
            BlobInWork(
                blob_id,
                found.fingerprint,
                span.dtype,
                span.shape,
                span.nbytes,
                read_frame,
                base,
                progress.advance,
                base_damaged,
            )
        )
        self._written[blob_id] = _Written(work, source, span.offset)
        to_be = Blob(
            blob_id, span.nbytes, found.fingerprint, span.dtype, span.shape, reference, self._pack.writer.name, 0, _NONE
        )
        self._search.expect(to_be, step.features, found.sample, lambda wait: encoder.is_member(work, wait=wait))
        return blob_id

    def _finished(self, written: _Written) -> OpenBlob:
        assert self._encoder is not None
        return self._encoder.finish(written.work)

    def _appended(self, blob: OpenBlob) -> None:
        """Have a blob verified that is whole in the pack, and others that are on the disk by now."""
        assert self._pack is not None
        written = self._written[blob.blob.id]
        self._verifier.add(StoredBlob(blob, written.source, written.offset))
        self._verifier.advance(self._pack.writer.on_disk_nbytes)

    def take_back(self, count: int) -> None:
        """Forget all but the first `count` blobs: what was read of a file that changed meanwhile is of no use."""
        if self._encoder is not None:
            self._encoder.drop_all()
        forgotten = list(self._written)[count:]
        self._verifier.forget(set(forgotten))
        for blob_id in forgotten:
            del self._written[blob_id]
            self._search.forget(blob_id)
        if self._pack is not None:
            self._pack.writer.rewind(count)

    def verify(self, blobs: Sequence[PackedBlob]) -> None:
        """Read every new frame back from the pack, decode it, compare it with the raw bytes.

        Raises SourcesChanged, Damaged, Stopped.
        """
        self._verifier.finish()
        changed: list[tuple[Source, SourceError]] = []
        sources = (written.source.file for written in self._written.values())
        for source in {id(source): source for source in sources}.values():
            try:
                source.check_unchanged()
            except SourceError as error:
                changed.append((source, error))
        if changed:
            raise SourcesChanged(changed)

    def abandon(self) -> None:
        """Leave nothing behind, unless a catalog may refer to it."""
        if self._encoder is not None:
            self._encoder.drop_all()
        self._verifier.drop_all()
        if self._pack is not None:
            self._pack.give_up()
        self._written.clear()

    def close(self) -> None:
        """Let go of a pack that turned out to hold nothing."""
        if self._pack is not None and not self._written:
            self._pack.give_up()


_NONE = np.empty(0, np.uint32)
"""The frames of a blob that is not coded yet."""
