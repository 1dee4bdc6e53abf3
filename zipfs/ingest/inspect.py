"""Owns the inspection of a file: one pass over its bytes for layout, SHA-256, fingerprints and minhash samples.

A file is inspected span by span, on another thread and at most AHEAD_NBYTES before it is planned and stored: what was
read is still in the page cache then. Of a span that one frame holds the bytes are kept until then, and read once.
Sketch and signature of a larger one, which take a read of 2 KiB, are read only of what turns out to be new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import xxhash

from zipfs.bases.similarity.features import TensorFeatures, read_features
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.codec import FRAME_NBYTES, frame_nbytes
from zipfs.errors import Stopped
from zipfs.formats import Span, cut_runs, lay_out, opaque
from zipfs.ingest import gather, holes
from zipfs.ingest.holes import Piece
from zipfs.ingest.inspect_ahead import Ahead
from zipfs.ingest.progress import FileProgress
from zipfs.ingest.source import Source

_INLINE_NBYTES: Final = 256 << 10
"""Files up to this length are inspected by whoever wants to know."""
_ZEROS = bytes(FRAME_NBYTES)


@dataclass(frozen=True, slots=True)
class SpanInspection:
    """What one pass over a span tells of it; `sample` is None of what is too small, or no tensor.

    `raw` are all bytes of it, if a frame holds them.
    """

    span: Span
    fingerprint: bytes
    sample: MinhashSample | None
    raw: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class FileInspection:
    """The layout of a file: pieces that tile it, those without bytes on the disk apart, and small ones marked."""

    pieces: tuple[Piece, ...]
    hole_nbytes: int


class Inspector:
    """Inspects one open source; as plain bytes, whatever it holds, if it is told to."""

    def __init__(self, source: Source, progress: FileProgress, *, plainly: bool = False) -> None:
        self.source = source
        self._plainly = plainly
        self._progress = progress
        self._sha256: hashlib._Hash | None = None
        self._passed_nbytes = 0
        """Of pieces, by whatever thread inspects them."""
        self._told_nbytes = 0
        self._is_left = False

    def file(self) -> FileInspection:
        """Lay the file out. Its pieces are then to be passed through `piece` or `hole` in their order."""
        source = self.source
        if self._plainly:
            layout = opaque(source.nbytes)
        else:
            layout = lay_out(source.name, source.read, source.nbytes)
            layout = cut_runs(source.name, layout, source.read, source.nbytes)
        if source.older is None:
            pieces = gather.mark(list(holes.cut(layout.spans, source.holes())))
        else:
            pieces = gather.mark(list(holes.keep(layout.spans, source.unchanged())))
        hole_nbytes = sum(piece.span.nbytes for piece in pieces if piece.is_hole)
        if hole_nbytes <= holes.HASHED_NBYTES:
            self._sha256 = hashlib.sha256()
        return FileInspection(pieces, hole_nbytes)

    @contextmanager
    def ahead(self, pieces: Sequence[Piece], executor: Executor) -> Iterator[Iterator[SpanInspection | None]]:
        """Yield the inspections of all pieces, in order, while more of them are inspected; None of those that are
        neither coded nor compared.

        After the block nothing is inspected any longer, so that the source may be closed.
        """
        if self.source.nbytes <= _INLINE_NBYTES:
            yield map(self._inspected, pieces)
            self._tell()
            return
        ahead = Ahead(self._inspected, pieces, executor)
        try:
            yield ahead.outcomes(self._tell)
        finally:
            self._is_left = True
            ahead.leave()

    def piece(self, span: Span) -> SpanInspection:
        """Inspect the next piece of the file. Any thread may, one after the other. Raises SourceError, Stopped."""
        return self._pass_over(span, self._sha256, is_first=True)

    def hole(self, nbytes: int) -> None:
        """Pass over zeros that are not read, as over a piece."""
        if self._sha256 is None:
            return
        for at in range(0, nbytes, FRAME_NBYTES):
            self._sha256.update(_ZEROS[: min(FRAME_NBYTES, nbytes - at)])
            self._note(0)

    def stored(self, span: Span) -> None:
        """Pass over what is stored already, of an older version or with others: it is read for the digest alone."""
        for at in range(0, span.nbytes, FRAME_NBYTES):
            nbytes = min(FRAME_NBYTES, span.nbytes - at)
            if self._sha256 is not None:
                self._sha256.update(self.source.read_exactly(span.offset + at, nbytes))
            self._note(nbytes)

    def again(self, span: Span) -> SpanInspection:
        """Inspect a part of what was passed over: it is to be stored by itself."""
        return self._pass_over(span, None, is_first=False)

    def sha256(self) -> bytes | None:
        """Return the digest of all pieces; None of a file with holes so large that they are not hashed."""
        return None if self._sha256 is None else self._sha256.digest()

    def features(self, found: SpanInspection) -> TensorFeatures | None:
        """Read the features of a tensor; None for what is none, or too small to gain by a base."""
        source, span, raw = self.source, found.span, found.raw
        if raw is not None:
            return read_features(lambda offset, nbytes: raw[offset : offset + nbytes], span.nbytes, span.dtype)
        return read_features(lambda offset, nbytes: source.read(span.offset + offset, nbytes), span.nbytes, span.dtype)

    def _tell(self) -> None:
        """Tell of what was passed, by the thread that is to tell. Raises Stopped, NotWanted."""
        passed_nbytes = self._passed_nbytes
        self._progress.advance(passed_nbytes - self._told_nbytes)
        self._told_nbytes = passed_nbytes

    def _note(self, nbytes: int) -> None:
        """Note that so many bytes were passed. Raises Stopped, by which a thread ends that is not wanted any more."""
        self._passed_nbytes += nbytes
        if self._is_left:
            raise Stopped
        self._progress.check_stop()

    def _inspected(self, piece: Piece) -> SpanInspection | None:
        if piece.shown is not None or piece.is_gathered:
            self.stored(piece.span)
        elif piece.is_hole:
            self.hole(piece.span.nbytes)
        else:
            return self.piece(piece.span)
        return None

    def _pass_over(self, span: Span, sha256: hashlib._Hash | None, *, is_first: bool) -> SpanInspection:
        fingerprint, scan = xxhash.xxh3_128(), SampleScan(span.nbytes, span.dtype, span.shape)
        data, step_nbytes = b"", frame_nbytes(span.dtype)
        for at in range(0, span.nbytes, step_nbytes):
            data = self.source.read_exactly(span.offset + at, min(step_nbytes, span.nbytes - at))
            fingerprint.update(data)
            scan.feed(at, data)
            if sha256 is not None:
                sha256.update(data)
            if is_first:
                self._note(len(data))
            else:
                self._progress.advance(0)
        raw = data if span.nbytes <= step_nbytes else None
        return SpanInspection(span, fingerprint.digest(), scan.sample(), raw)
