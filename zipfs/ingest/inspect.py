"""Owns the inspection of a file: one pass over its bytes for layout, SHA-256, fingerprints and minhash samples.

A file is inspected span by span, each right before it is planned and stored: what was read is still in the page cache
then, and no more than one tensor's inspection is held. Sketch and signature, which take a read of 2 KiB, are read only
of what turns out to be new. Used by one thread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import xxhash

from zipfs.bases.similarity.features import TensorFeatures, read_features
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.codec import FRAME_NBYTES
from zipfs.formats import Span, lay_out
from zipfs.ingest import holes
from zipfs.ingest.holes import Piece
from zipfs.ingest.progress import FileProgress
from zipfs.ingest.source import Source

_ZEROS = bytes(FRAME_NBYTES)


@dataclass(frozen=True, slots=True)
class SpanInspection:
    """What one pass over a span tells of it; `sample` is None of what is too small, or no tensor."""

    span: Span
    fingerprint: bytes
    sample: MinhashSample | None


@dataclass(frozen=True, slots=True)
class FileInspection:
    """The layout of a file: pieces that tile it, those without bytes on the disk apart."""

    pieces: tuple[Piece, ...]
    hole_nbytes: int


class Inspector:
    """Inspects one open source."""

    def __init__(self, source: Source, progress: FileProgress) -> None:
        self.source = source
        self._progress = progress
        self._sha256: hashlib._Hash | None = None

    def file(self) -> FileInspection:
        """Lay the file out. Its pieces are then to be passed through `piece` or `hole` in their order."""
        source = self.source
        layout = lay_out(source.name, source.read, source.nbytes)
        pieces = tuple(holes.cut(layout.spans, source.holes()))
        hole_nbytes = sum(piece.span.nbytes for piece in pieces if piece.is_hole)
        if hole_nbytes <= holes.HASHED_NBYTES:
            self._sha256 = hashlib.sha256()
        return FileInspection(pieces, hole_nbytes)

    def piece(self, span: Span) -> SpanInspection:
        """Inspect the next piece of the file."""
        return self._pass_over(span, self._sha256, is_first=True)

    def hole(self, nbytes: int) -> None:
        """Pass over zeros that are not read."""
        if self._sha256 is None:
            return
        for at in range(0, nbytes, FRAME_NBYTES):
            self._sha256.update(_ZEROS[: min(FRAME_NBYTES, nbytes - at)])
            self._progress.advance(0)

    def again(self, span: Span) -> SpanInspection:
        """Inspect a part of what was passed over: it is to be stored by itself."""
        return self._pass_over(span, None, is_first=False)

    def sha256(self) -> bytes | None:
        """Return the digest of all pieces; None of a file with holes so large that they are not hashed."""
        return None if self._sha256 is None else self._sha256.digest()

    def features(self, span: Span) -> TensorFeatures | None:
        """Read the features of a tensor; None for what is none, or too small to gain by a base."""
        source = self.source
        if not span.dtype or span.nbytes > FRAME_NBYTES:
            return read_features(
                lambda offset, nbytes: source.read(span.offset + offset, nbytes), span.nbytes, span.dtype
            )
        # One copy takes less time than many short reads.
        whole = source.read_exactly(span.offset, span.nbytes)
        return read_features(lambda offset, nbytes: whole[offset : offset + nbytes], span.nbytes, span.dtype)

    def _pass_over(self, span: Span, sha256: hashlib._Hash | None, *, is_first: bool) -> SpanInspection:
        fingerprint, scan = xxhash.xxh3_128(), SampleScan(span.nbytes, span.dtype, span.shape)
        for at in range(0, span.nbytes, FRAME_NBYTES):
            data = self.source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            fingerprint.update(data)
            scan.feed(at, data)
            if sha256 is not None:
                sha256.update(data)
            self._progress.advance(len(data) if is_first else 0)
        return SpanInspection(span, fingerprint.digest(), scan.sample())
