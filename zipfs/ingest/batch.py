"""Owns a batch: several files that are inspected, planned and stored one after the other, as candidates of each other.

Used by one thread. The execution decides what becomes of the steps: they are carried out into a pack, or only told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Protocol

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.formats import Span
from zipfs.ingest import gather, holes
from zipfs.ingest.content import Blobs, SourceContent
from zipfs.ingest.holes import Piece
from zipfs.ingest.inspect import Inspector, SpanInspection
from zipfs.ingest.plan import Planner, Step, share_unchanged, share_zeros
from zipfs.ingest.progress import FileProgress, Progress
from zipfs.ingest.source import Gathered, Source, SourceError, StoredFile, Zeros
from zipfs.store.disk.stopping import Stop
from zipfs.store.objects.values import Extent

_MOST_ZEROS = 1 << 20
"""Extents of zeros in one file."""


class Execution(Blobs, Protocol):
    """What becomes of the steps of a plan."""

    @property
    def blobs(self) -> int:
        """Return how many blobs the steps have made."""

    def stored_nbytes(self, first: int) -> int:
        """Return what all but the first so many blobs take, once all of them are coded. Raises as `carry_out`."""

    def carry_out(self, step: Step, source: Source, progress: FileProgress) -> Extent:
        """Carry out one step of the plan of a file; a blob is coded while the next step is planned.

        What goes wrong with it is raised by this call or a later one for the same file: SourceError, Damaged, Stopped,
        OSError.
        """

    def take_back(self, count: int) -> None:
        """Forget all but the first `count` blobs."""


class Batch:
    """Stores sources as candidates of each other. `files` lists what has been stored."""

    def __init__(
        self, execution: Execution, search: CandidateSearch, executor: Executor, progress: Progress, stop: Stop
    ) -> None:
        self._execution = execution
        self._search = search
        self._executor = executor
        self._progress = progress
        self._stop = stop
        self.files: list[tuple[Source, StoredFile]] = []

    def add(self, source: Source, *, plainly: bool = False) -> StoredFile:
        """Store one file, or nothing of it; the caller has opened the source. `plainly` is as plain bytes.

        Raises SourceError, Damaged, Stopped, OSError.
        """
        count = self._execution.blobs
        try:
            stored = self._add(source, count, plainly=plainly)
        except Exception:
            self._execution.take_back(count)
            raise
        self.files.append((source, stored))
        return stored

    def _add(self, source: Source, first_new: int, *, plainly: bool) -> StoredFile:
        progress = FileProgress(source, self._progress, self._stop)
        inspector = Inspector(source, progress, plainly=plainly)
        file = inspector.file()
        planner = self._planner(inspector, progress)
        extents: list[Extent] = []
        zeros = self._zeros(source, file.hole_nbytes) if file.hole_nbytes else None
        gathered = self._gathered(source, file.pieces, progress)
        with inspector.ahead(file.pieces, self._executor) as inspections:
            for piece, found in zip(file.pieces, inspections, strict=True):
                if piece.is_gathered:
                    extents.append(next(gathered))
                    continue
                if found is not None:
                    steps = planner.steps(found)
                elif piece.shown is not None:
                    steps = iter([share_unchanged(piece.span, piece.shown)])
                else:
                    assert zeros is not None
                    progress.advance(piece.span.nbytes)
                    steps = share_zeros(piece.span, zeros)
                # Lazily: each step is begun before the planner is asked for the next one.
                extents.extend(self._execution.carry_out(step, source, progress) for step in steps)
        stored_nbytes = self._execution.stored_nbytes(first_new)
        source.check_unchanged()
        return StoredFile(source.nbytes, tuple(extents), inspector.sha256(), stored_nbytes)

    def _planner(self, inspector: Inspector, progress: FileProgress) -> Planner:
        return Planner(self._search, SourceContent(inspector, self._execution, self._executor, progress))

    def _gathered(self, source: Source, pieces: Sequence[Piece], progress: FileProgress) -> Iterator[Extent]:
        """Yield the extents of gathered pieces, in order. A blob of them is stored when the first one is asked for."""
        for spans in gather.blobs(pieces):
            joined = Gathered(source, spans)
            inspector = Inspector(joined, FileProgress(source, None, self._stop))  # the pieces are told of themselves
            whole = self._whole(inspector, inspector.again(Span(0, joined.nbytes, "", (), None)), progress)
            at = whole.blob_offset
            for span in spans:
                yield Extent(span.offset, span.nbytes, whole.blob_id, at)
                at += span.nbytes

    def _zeros(self, source: Source, hole_nbytes: int) -> Extent:
        """Return the blob that holes of so many bytes are ranges of, as the extent of a file of zeros.

        It is stored when it is first needed.
        """
        zeros = Zeros(holes.zeros_nbytes(hole_nbytes))
        if hole_nbytes > _MOST_ZEROS * zeros.nbytes:
            raise SourceError(source.shown, f"has holes of {hole_nbytes} bytes, which is more than can be stored")
        progress = FileProgress(source, None, self._stop)
        found = SpanInspection(Span(0, zeros.nbytes, "", (), None), zeros.fingerprint(), None)
        return self._whole(Inspector(zeros, progress), found, progress)

    def _whole(self, inspector: Inspector, found: SpanInspection, progress: FileProgress) -> Extent:
        """Store all of a source of plain bytes, as one extent."""
        steps = self._planner(inspector, progress).steps(found)
        (extent,) = (self._execution.carry_out(step, inspector.source, progress) for step in steps)
        return extent
