"""Owns the dry run: the plans of files as an ingest would carry them out, and nothing written.

What would be new is a candidate for what follows, as in an ingest; its bytes are those of its source. All is planned as
one batch: families that would change over to better bases afterwards do not. For each tensor that would be new some
6 KiB are held. Used by one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.batch import Batch
from zipfs.ingest.content import BlobReader
from zipfs.ingest.plan import Encode, EncodingPlan, Share, Step
from zipfs.ingest.progress import FileProgress, Progress
from zipfs.ingest.source import Source, SourceError, Zeros
from zipfs.store.objects.values import Blob, BlobId, Extent, PackName, frame_count
from zipfs.store.store import Store

_OPEN_SOURCES: Final = 64
_NO_PACK: Final = PackName(bytes(16))


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """How a file would be stored."""

    shown: str
    nbytes: int
    plan: EncodingPlan


@dataclass(frozen=True, slots=True)
class PlannedBlob:
    """A blob that would be new, and where its bytes are."""

    blob: Blob
    source: Source
    span: Span


class DryRun:
    """Plans files without writing. The store may be open for reading only."""

    def __init__(self, store: Store, progress: Progress, *, threads: int = 2) -> None:
        self._store = store
        self._progress = progress
        self._search = CandidateSearch(store)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="plan")
        self._planned: dict[BlobId, PlannedBlob] = {}
        self._open: OrderedDict[int, Source] = OrderedDict()
        self._current: Source | None = None
        """The one that is being planned."""
        self._steps: list[Step] = []
        _, self._next_id = store.catalog.next_ids()

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        for source in self._open.values():
            source.close()

    def plan(self, sources: Iterable[Source]) -> Iterator[PlannedFile]:
        """Yield the plan of each file. One that cannot be read is told of as an ingest does. Raises Stopped."""
        self._search.begin()
        batch = Batch(self, self._search, self._executor, self._progress, self._store.stop)
        for source in sources:
            self._store.stop.check()
            self._steps, self._current = [], source
            try:
                self._use(source)
                self._progress.began(source.shown, source.nbytes)
                batch.add(source)
            except (SourceError, Damaged) as error:
                self._progress.failed(source.shown, str(error))
                continue
            yield PlannedFile(source.shown, source.nbytes, EncodingPlan(tuple(self._steps)))

    def planned(self, blob_id: BlobId) -> PlannedBlob | None:
        """Return a blob that would be new; None for a stored one."""
        return self._planned.get(blob_id)

    def _use(self, source: Source) -> None:
        """Have a source be open, beside the one that is being planned; few are at a time."""
        key = id(source)
        if key not in self._open:
            source.open()
            self._open[key] = source
        self._open.move_to_end(key)
        if self._current is not None and id(self._current) in self._open:
            self._open.move_to_end(id(self._current))
        while len(self._open) > _OPEN_SOURCES:
            _, oldest = self._open.popitem(last=False)
            oldest.close()

    # The execution of the plans

    @property
    def blobs(self) -> int:
        return len(self._planned)

    def stored_nbytes(self, first: int) -> int:
        return sum(planned.blob.stored_nbytes for planned in list(self._planned.values())[first:])

    def reader(self, blob_id: BlobId) -> BlobReader:
        planned = self._planned.get(blob_id)
        if planned is None:
            stored, frames = self._store.open_blob(blob_id), self._store.frames
            return BlobReader(stored.blob, lambda offset, nbytes: frames.range(stored, offset, nbytes))
        source, start, end = planned.source, planned.span.offset, planned.span.nbytes
        if not isinstance(source, Zeros):
            self._use(source.file)

        def read(offset: int, nbytes: int) -> memoryview:
            return memoryview(source.read_exactly(start + offset, max(0, min(nbytes, end - offset))))

        return BlobReader(planned.blob, read)

    def carry_out(self, step: Step, source: Source, progress: FileProgress) -> Extent:
        span = step.span
        progress.advance(span.nbytes)
        if isinstance(step, Share):
            self._steps.append(step)
            return Extent(span.offset, span.nbytes, step.blob_id, step.blob_offset)
        blob = self._blob(step)
        self._planned[blob.id] = PlannedBlob(blob, source, span)
        self._search.add(blob, step.features, step.found.sample)
        if not isinstance(source, Zeros):
            self._steps.append(replace(step, found=replace(step.found, sample=None, raw=None), features=None))
        return Extent(span.offset, span.nbytes, blob.id, 0)

    def _blob(self, step: Encode) -> Blob:
        span = step.span
        count = frame_count(span.nbytes, span.dtype)
        frames = np.full(count, step.predicted_nbytes // count, np.uint32)
        frames[0] += step.predicted_nbytes - int(frames.sum())
        blob_id, self._next_id = BlobId(self._next_id), self._next_id + 1
        fingerprint, base = step.found.fingerprint, step.choice.base
        return Blob(blob_id, span.nbytes, fingerprint, span.dtype, span.shape, base, _NO_PACK, 0, frames)

    def take_back(self, count: int) -> None:
        for blob_id in list(self._planned)[count:]:
            del self._planned[blob_id]
            self._search.forget(blob_id)
