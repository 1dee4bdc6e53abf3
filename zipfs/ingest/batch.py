"""One batch: several files that become one pack. Finds what is stored already, chooses bases, encodes, verifies.

Nothing of a batch is visible to anyone before `Pipeline` commits it. One thread drives a batch; frames are coded on the
threads of an executor, a bounded number at a time, and appended in order.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import xxhash

from zipfs.bases import Search
from zipfs.bases.similarity.alignment import PartialMatch
from zipfs.bases.similarity.choose_base import MARGIN
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.codec import FRAME_NBYTES, encode_frame, read_header
from zipfs.errors import Damaged
from zipfs.formats import Span, lay_out
from zipfs.ingest import holes
from zipfs.ingest.base_selection import Chooser, Mine
from zipfs.ingest.part_search import Relations
from zipfs.ingest.progress import Progress
from zipfs.ingest.source import Source, SourceError, StoredFile, Zeros
from zipfs.ingest.split_tensor import Part, parts_of, parts_of_repetition
from zipfs.store.frames.cache import OpenBlob, opened
from zipfs.store.frames.ordered import in_order
from zipfs.store.objects.values import BaseRef, Blob, BlobId, Extent, frame_count, frame_seed
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.publish import NewPack
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_KEPT_OPEN = 256
"""Stored blobs: a base is looked at, weighed and coded against, one after the other."""

_ZEROS = bytes(FRAME_NBYTES)
_MOST_ZEROS = 1 << 20
"""Extents of zeros in one file."""

_SEARCHED_BITS = 8 * (32 << 10)
"""Where a base of the same length leaves less to gain than this, other relatives are not looked for."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one pass over a span tells of it."""

    fingerprint: bytes
    landmarks: MinhashSample | None


@dataclass(frozen=True, slots=True)
class _New:
    """A blob that this batch has written, and the raw bytes to compare it with."""

    open: OpenBlob
    source: Source
    offset: int


class SourcesChanged(Exception):
    """Sources changed after they were encoded, or cannot be read any more: nothing of the batch may be committed."""

    def __init__(self, changed: Sequence[tuple[Source, SourceError]]) -> None:
        super().__init__(*(error for _, error in changed))
        self.changed = changed


class Batch:
    """See the module. `files` lists what can be committed after `verify`."""

    def __init__(self, store: Store, executor: Executor, progress: Progress, search: Search) -> None:
        self._store = store
        self._executor = executor
        self._progress = progress
        self._pack: NewPack | None = None
        self._new: dict[BlobId, _New] = {}
        self._opened: dict[BlobId, OpenBlob] = {}
        self._by_fingerprint: dict[tuple[bytes, int], list[BlobId]] = defaultdict(list)
        self.chooser = Chooser(search, store.frames, self._base)
        self.relations = Relations(store, self._base)
        self.files: list[tuple[Source, StoredFile]] = []

    @property
    def pack(self) -> NewPack | None:
        """The pack, if anything new had to be written."""
        return self._pack if self._new else None

    def add(self, source: Source) -> None:
        """Store one file, or nothing of it; the caller has opened the source.

        Raises SourceError, Damaged, Stopped, OSError.
        """
        count = len(self._new)
        try:
            self._add(source)
        except Exception:
            self._take_back(count)
            raise

    def _take_back(self, count: int) -> None:
        """Forget all but the first `count` blobs: what was read of a file that changed meanwhile is of no use."""
        for blob_id in list(self._new)[count:]:
            blob = self._new.pop(blob_id).open.blob
            self.chooser.forget(blob_id)
            self.relations.forget(blob_id)
            self._by_fingerprint[blob.fingerprint, blob.nbytes].remove(blob_id)
        if self._pack is not None:
            self._pack.writer.rewind(count)

    def _add(self, source: Source) -> None:
        layout = lay_out(source.name, source.read, source.nbytes)
        pieces = list(holes.cut(layout.spans, source.holes()))
        hole_nbytes = sum(piece.span.nbytes for piece in pieces if piece.is_hole)
        sha256 = hashlib.sha256() if hole_nbytes <= holes.HASHED_NBYTES else None
        extents: list[Extent] = []
        first_new = len(self._new)
        zeros = self._zeros(source, hole_nbytes) if hole_nbytes else None
        for piece in pieces:
            span = piece.span
            if piece.is_hole and zeros is not None:
                extents += _hole(span, *zeros)
                if sha256 is not None:
                    self._hash_zeros(source, span.nbytes, sha256)
                self._advance(source, 2 * span.nbytes)
                continue
            look = self._look(source, span, sha256, first=True)
            blob_id = self._find_same(source, span, look.fingerprint)
            if blob_id is None:
                extents += self._put(source, span, look)
            else:
                self._advance(source, span.nbytes)
                extents.append(Extent(span.offset, span.nbytes, blob_id, 0))
        source.check_unchanged()
        stored_nbytes = sum(new.open.blob.stored_nbytes for new in list(self._new.values())[first_new:])
        digest = None if sha256 is None else sha256.digest()
        self.files.append((source, StoredFile(source.nbytes, tuple(extents), digest, stored_nbytes)))

    def _advance(self, source: Source, nbytes: int) -> None:
        """Tell of progress, about once a MiB. Raises Stopped, and NotWanted if the file was removed meanwhile."""
        self._store.stop.check()
        source.check_wanted()
        self._progress.advanced(nbytes)

    def _zeros(self, source: Source, hole_nbytes: int) -> tuple[BlobId, int]:
        """The blob that holes of so many bytes are ranges of, and its length; it is stored when it is first needed."""
        zeros = Zeros(holes.zeros_nbytes(hole_nbytes))
        if hole_nbytes > _MOST_ZEROS * zeros.nbytes:
            raise SourceError(source.shown, f"has holes of {hole_nbytes} bytes, which is more than can be stored")
        whole, look = Span(0, zeros.nbytes, "", (), None), _Look(zeros.fingerprint(), None)
        blob_id = self._find_same(zeros, whole, look.fingerprint)
        if blob_id is None:
            blob_id = self._write_new(zeros, whole, look, None, None).id
        return blob_id, zeros.nbytes

    def _hash_zeros(self, source: Source, nbytes: int, sha256: hashlib._Hash) -> None:
        for at in range(0, nbytes, FRAME_NBYTES):
            sha256.update(_ZEROS[: min(FRAME_NBYTES, nbytes - at)])
            self._advance(source, 0)

    def _look(self, source: Source, span: Span, sha256: hashlib._Hash | None = None, *, first: bool = False) -> _Look:
        """Fingerprint and landmarks of a span; the file's SHA-256 is fed in the `first` pass over its bytes."""
        fingerprint, scan = xxhash.xxh3_128(), SampleScan(span.nbytes, span.dtype, span.shape)
        for at in range(0, span.nbytes, FRAME_NBYTES):
            data = source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            fingerprint.update(data)
            scan.feed(at, data)
            if sha256 is not None:
                sha256.update(data)
            self._advance(source, len(data) if first else 0)
        return _Look(fingerprint.digest(), scan.sample())

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

        return self._all(source, same, span.nbytes)

    def _all(self, source: Source, same: Callable[[int], bool], nbytes: int) -> bool:
        """Whether all frames of so many bytes are the same."""
        with in_order(self._executor, same, frame_count(nbytes), nbytes) as frames:
            for is_same in frames:
                if not is_same:
                    return False
                self._advance(source, 0)
        return True

    # Encoding

    def _put(
        self, source: Source, span: Span, look: _Look, *, members: bool = True, repeats: bool = True
    ) -> list[Extent]:
        """Store a span that is not stored as a whole: in one blob, or in parts that have a relative each.

        With `members` parts may be shared that seem to be equal to some of what has a base itself; with `repeats` the
        relative of a part may be another one.
        """
        mine = self.chooser.look(source, span)
        chosen = self.chooser.choose(source, span, mine)
        relatives: list[PartialMatch] = []
        if look.landmarks is not None and mine is not None:
            standalone_bits = chosen.standalone_bits
            if chosen.base is None or chosen.bits * look.landmarks.items > _SEARCHED_BITS:
                found = self.relations.find(look.landmarks, source, span, standalone_bits, chosen.base, members=members)
                saved_bits = sum(
                    (relative.stop - relative.start) * (standalone_bits - relative.bits) for relative in found
                )
                if saved_bits / look.landmarks.items > (standalone_bits - chosen.bits) + MARGIN * standalone_bits:
                    relatives = found
                elif not repeats or chosen.base is not None:
                    pass
                elif parts := parts_of_repetition(span, look.landmarks.repetition()):
                    looks = [(part, self._look(source, part)) for part in parts]
                    return [extent for of in looks for extent in self._put(source, *of, members=members, repeats=False)]
        if not relatives:
            return [self._whole(self._write_new(source, span, look, chosen.base, mine), span)]
        extents: list[Extent] = []
        for part in parts_of(span, relatives):
            extents += self._put_part(source, span, part, look, mine, repeats=repeats)
        return extents

    def _whole(self, blob: Blob, span: Span) -> Extent:
        return Extent(span.offset, span.nbytes, blob.id, 0)

    def _put_part(
        self, source: Source, span: Span, part: Part, look: _Look, mine: Mine | None, *, repeats: bool
    ) -> list[Extent]:
        if part.base is not None and part.equal:
            if self._is_range(source, part.span, part.base):
                self._advance(source, part.span.nbytes)
                return [Extent(part.span.offset, part.span.nbytes, part.base.blob_id, part.base.view.offset)]
            if self._base(part.base.blob_id).base is not None:
                return self._put(source, part.span, self._look(source, part.span), members=False, repeats=repeats)
        if part.span.nbytes < span.nbytes:
            look = self._look(source, part.span)
            same = self._find_same(source, part.span, look.fingerprint)
            if same is not None:
                self._advance(source, part.span.nbytes)
                return [Extent(part.span.offset, part.span.nbytes, same, 0)]
            mine = self.chooser.look(source, part.span)
        base = part.base
        if base is None:
            base = self.chooser.choose(source, part.span, mine).base
        return [self._whole(self._write_new(source, part.span, look, base, mine), part.span)]

    def _is_range(self, source: Source, span: Span, base: BaseRef) -> bool:
        """Whether a span has the very bytes of a part of a blob."""
        stored = self._base(base.blob_id)

        def same(index: int) -> bool:
            at = index * FRAME_NBYTES
            raw = source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            return same_bytes(self._store.frames.range(stored, base.view.offset + at, len(raw)), raw)

        try:
            return self._all(source, same, span.nbytes)
        except Damaged as error:
            log.error("%s; nothing is shared with it", error)
            return False

    def _base(self, blob_id: BlobId) -> OpenBlob:
        """A blob to compare or to code with; while the batch holds the pack lock nothing stored changes."""
        new = self._new.get(blob_id)
        if new is not None:
            return new.open
        found = self._opened.get(blob_id)
        if found is None:
            if len(self._opened) >= _KEPT_OPEN:
                self._opened.clear()
            found = self._opened[blob_id] = self._store.open_blob(blob_id)
        return found

    def _write_new(self, source: Source, span: Span, look: _Look, reference: BaseRef | None, mine: Mine | None) -> Blob:
        base = None if reference is None else self._base(reference.blob_id)
        if self._pack is None:
            self._pack = NewPack(self._store, "ingest")
        writer = self._pack.writer
        blob_id = self._store.reserve_blob_id()

        def encode(index: int) -> bytes:
            at = index * FRAME_NBYTES
            raw = source.read_exactly(span.offset + at, min(FRAME_NBYTES, span.nbytes - at))
            against = None
            if base is not None and reference is not None:
                against = self._store.frames.view(base, reference.view, at, len(raw))
            return encode_frame(raw, span.dtype, against, frame_seed(blob_id, index))

        writer.begin_blob()
        base_helped = False
        try:
            with in_order(self._executor, encode, frame_count(span.nbytes), span.nbytes) as frames:
                for index, frame in enumerate(frames):
                    writer.append_frame(frame)
                    base_helped = base_helped or read_header(frame).needs_base
                    self._advance(source, min(FRAME_NBYTES, span.nbytes - index * FRAME_NBYTES))
        except Damaged as error:
            if reference is None:
                writer.drop_blob()
                raise
            # Frames coded standalone would not help: those who read them would still ask for the base.
            log.error("%s; %s is coded without it", error, source.shown)
            writer.drop_blob()
            return self._write_new(source, span, look, None, mine)
        except BaseException:
            writer.drop_blob()
            raise
        if not base_helped:
            base = reference = None
        blob = writer.end_blob(blob_id, span.nbytes, look.fingerprint, span.dtype, span.shape, reference)
        self._new[blob_id] = _New(opened(blob, writer.file, base), source, span.offset)
        self._by_fingerprint[look.fingerprint, span.nbytes].append(blob_id)
        if mine is not None:
            self.chooser.add(blob, mine)
        if look.landmarks is not None:
            self.relations.add(blob, look.landmarks)
        return blob

    # Verification

    def verify(self, blobs: Sequence[PackedBlob]) -> None:
        """Read every new frame back from the pack, decode it, compare it with the raw bytes.

        Raises SourcesChanged, Damaged, Stopped.
        """
        changed: list[tuple[Source, SourceError]] = []
        for packed in blobs:
            new = self._new[packed.blob.id]
            if any(new.source is source for source, _ in changed):
                continue
            try:
                self._verify(new)
            except SourceError as error:
                changed.append((new.source, error))
        if changed:
            raise SourcesChanged(changed)

    def _verify(self, new: _New) -> None:
        count = frame_count(new.open.blob.nbytes)
        with in_order(self._executor, self._comparing(new), count, new.open.blob.nbytes) as frames:
            for index, good in enumerate(frames):
                self._store.stop.check()
                new.source.check_wanted()
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
        """Leave nothing behind, unless a catalog may refer to it."""
        if self._pack is not None:
            self._pack.give_up()
        self._new.clear()

    def close(self) -> None:
        """Let go of a pack that turned out to hold nothing."""
        if self._pack is not None and not self._new:
            self._pack.give_up()


def same_bytes(one: memoryview | bytes, other: memoryview | bytes) -> bool:
    """Compared without holding the GIL, as memoryview's own comparison would."""
    return bool(np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)))


def _hole(span: Span, zeros_id: BlobId, zeros_nbytes: int) -> Iterator[Extent]:
    for at in range(0, span.nbytes, zeros_nbytes):
        yield Extent(span.offset + at, min(zeros_nbytes, span.nbytes - at), zeros_id, 0)
