"""Owns the comparison of what is stored of new blobs with the raw bytes that they were made of.

It begins as soon as a blob is on the disk, while others are coded: then its base is still decoded, and its raw bytes
are still in the page cache. Frames are read back from where the pack is kept and never from memory. One thread drives
it; frames are compared on the threads of an executor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from typing import Final, NamedTuple

from zipfs.errors import Damaged
from zipfs.ingest.source import Source, SourceError
from zipfs.store.disk.stopping import Stop
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.compare import same_bytes
from zipfs.store.frames.decode_plan import Target
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import BlobId

_RUN_NBYTES: Final = 2 << 20
"""Raw bytes that are read back in one read and decoded in one call."""
_RUNS_IN_WORK: Final = 16


class SourcesChanged(Exception):
    """Sources changed after they were encoded, or cannot be read any more: nothing of the batch may be committed."""

    def __init__(self, changed: Sequence[tuple[Source, SourceError]]) -> None:
        super().__init__(*(error for _, error in changed))
        self.changed = changed


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob of the new pack, and the raw bytes to compare it with: those of a source from `offset` on."""

    open: OpenBlob
    source: Source
    offset: int


class _Frame(NamedTuple):
    stored: StoredBlob
    number: int

    @property
    def nbytes(self) -> int:
        return self.stored.open.blob.frame_nbytes(self.number)

    @property
    def source_offset(self) -> int:
        return self.stored.offset + self.number * self.stored.open.blob.step_nbytes


class _Outcome(NamedTuple):
    """What was wrong with a frame: its source, or, without an error, its bytes."""

    frame: _Frame
    error: SourceError | None


class Verifier:
    """Verifies the blobs of one pack."""

    def __init__(self, frames: FrameCache, executor: Executor, stop: Stop) -> None:
        self._frames = frames
        self._executor = executor
        self._stop = stop
        self._waiting: deque[StoredBlob] = deque()
        self._gathered: list[_Frame] = []
        self._gathered_nbytes = 0
        self._runs: deque[tuple[list[_Frame], Future[list[_Outcome]]]] = deque()
        self._bad: list[_Outcome] = []

    def add(self, stored: StoredBlob) -> None:
        """Have a blob verified that is appended to the pack, after those that were added before."""
        self._waiting.append(stored)

    def advance(self, on_disk_nbytes: int) -> None:
        """Begin with what lies in the first bytes of the pack. Raises Damaged."""
        while self._waiting and _end(self._waiting[0].open) <= on_disk_nbytes:
            self._begin(self._waiting.popleft())
        while len(self._runs) > _RUNS_IN_WORK:
            self._note_first()

    def forget(self, blob_ids: Collection[BlobId]) -> None:
        """Verify no more what is to be taken back, and have nothing be read any longer. Raises Damaged."""
        while self._runs:
            self._note_first()
        self._waiting = deque(one for one in self._waiting if one.open.blob.id not in blob_ids)
        self._gathered = [frame for frame in self._gathered if frame.stored.open.blob.id not in blob_ids]
        self._gathered_nbytes = sum(frame.nbytes for frame in self._gathered)
        self._bad = [outcome for outcome in self._bad if outcome.frame.stored.open.blob.id not in blob_ids]

    def finish(self) -> None:
        """Verify all that is left, which is on the disk now. Raises SourcesChanged, Damaged, Stopped."""
        while self._waiting:
            self._begin(self._waiting.popleft())
        self._submit()
        while self._runs:
            self._stop.check()
            self._note_first()
        changed: list[tuple[Source, SourceError]] = []
        for frame, error in self._bad:
            source = frame.stored.source.file
            if any(source is other for other, _ in changed):
                continue
            try:
                raise error if error is not None else _difference(frame)
            except SourceError as of_source:
                changed.append((source, of_source))
        if changed:
            raise SourcesChanged(changed)

    def drop_all(self) -> None:
        """Have nothing be verified any longer."""
        self._waiting.clear()
        self._gathered.clear()
        for _, run in self._runs:
            run.cancel()
        wait([run for _, run in self._runs])
        self._runs.clear()

    def _begin(self, stored: StoredBlob) -> None:
        for index in range(stored.open.blob.frame_count):
            frame = _Frame(stored, index)
            if self._gathered_nbytes + frame.nbytes > _RUN_NBYTES:
                self._submit()
            self._gathered.append(frame)
            self._gathered_nbytes += frame.nbytes

    def _submit(self) -> None:
        if self._gathered:
            self._runs.append((self._gathered, self._executor.submit(self._compare, self._gathered)))
        self._gathered, self._gathered_nbytes = [], 0

    def _note_first(self) -> None:
        frames, run = self._runs[0]
        self._bad += run.result()
        self._runs.popleft()
        for frame in frames:
            try:
                frame.stored.source.check_wanted()
            except SourceError as error:
                self._bad.append(_Outcome(frame, error))

    def _compare(self, frames: Sequence[_Frame]) -> list[_Outcome]:
        take = self._frames.buffers.take
        targets = [Target(frame.stored.open, frame.number, take(frame.nbytes)) for frame in frames]
        self._frames.decode_into(targets)
        bad = []
        for frame, target in zip(frames, targets, strict=True):
            try:
                raw = frame.stored.source.read_exactly(frame.source_offset, frame.nbytes)
            except SourceError as error:
                bad.append(_Outcome(frame, error))
                continue
            if not same_bytes(target.out, raw):
                bad.append(_Outcome(frame, None))
        return bad


def _end(blob: OpenBlob) -> int:
    return blob.blob.pack_offset + blob.blob.stored_nbytes


def _difference(frame: _Frame) -> Damaged:
    """Return the error of a frame that decodes to other bytes. Raises SourceError if it is the source that changed."""
    stored = frame.stored
    stored.source.check_unchanged()
    at = frame.source_offset
    return Damaged(stored.source.shown, f"what was stored of it decodes to other bytes, at offset {at}")
