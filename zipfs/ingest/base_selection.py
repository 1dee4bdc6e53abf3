"""Which base of its own length a new tensor gets, if any: sketch, search, choice, and the rule that opens a new base.

Knows the blobs of the catalog and those of the batch that are not in it yet. Used by one thread.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from zipfs.bases import (
    LEAST_MEMBER_NBYTES,
    LEAST_NBYTES,
    Choice,
    Search,
    choose_base,
    predict_standalone,
    signature,
    sketch,
)
from zipfs.bases.planning.planner import OUTSIDE
from zipfs.bases.similarity.choose_base import MIN_SAVED_NBYTES, Probe
from zipfs.bases.similarity.open_new_base import SIBLINGS, is_poor, worth_opening
from zipfs.codec import FRAME_NBYTES, encode_frame, item_nbytes
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.source import Source
from zipfs.store.catalog.writes import Transaction
from zipfs.store.frames.cache import FrameCache, OpenBlob
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, frame_count

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mine:
    """What a tensor is compared by."""

    sketch: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best base of the same length, None to code the tensor standalone, and predicted bits an item with it and
    alone.

    `bits` are also given of a base that is passed over so that the tensor can be one itself: whoever finds relatives
    for its parts has to save clearly more by them than that base would.
    """

    base: BaseRef | None
    bits: float
    standalone_bits: float


class Chooser:
    """The choice of bases for one batch."""

    def __init__(self, search: Search, frames: FrameCache, open_blob: Callable[[BlobId], OpenBlob]) -> None:
        self._search = search
        self._frames = frames
        self._open = open_blob
        self._new: dict[BlobId, Mine] = {}

    def look(self, source: Source, span: Span) -> Mine | None:
        """None for plain bytes, and for what is too small to gain by a base. Raises SourceError."""
        if not span.dtype or span.nbytes < LEAST_NBYTES:
            return None
        if span.nbytes <= FRAME_NBYTES:  # one copy takes less time than many short reads
            whole = source.read_exactly(span.offset, span.nbytes)
            mine = sketch(lambda offset, nbytes: whole[offset : offset + nbytes], span.nbytes, span.dtype)
        else:
            mine = sketch(lambda offset, nbytes: source.read(span.offset + offset, nbytes), span.nbytes, span.dtype)
        return Mine(mine, signature(mine, span.dtype))

    def choose(self, source: Source, span: Span, mine: Mine | None) -> Chosen:
        """Raises SourceError."""
        if mine is None:
            return Chosen(None, 0.0, 0.0)
        standalone_bits = predict_standalone(mine.sketch, span.dtype)
        standalone = Chosen(None, standalone_bits, standalone_bits)
        if standalone_bits * span.nbytes <= MIN_SAVED_NBYTES * 8 * item_nbytes(span.dtype):
            return standalone  # no base could save enough of a tensor that is all but constant
        candidates = self._search.near(span.dtype, span.nbytes, mine.signature)
        choice = choose_base(
            mine.sketch,
            span.nbytes,
            span.dtype,
            candidates,
            standalone=standalone_bits,
            probe=self._probe(source, span),
        )
        if choice is None:
            return standalone
        bits = choice.predicted_nbytes * 8 * item_nbytes(span.dtype) / span.nbytes
        if is_poor(choice) and self._is_to_open(span, mine, choice, dict(candidates)[choice.blob_id]):
            return Chosen(None, bits, standalone_bits)
        reference = BaseRef(BlobId(choice.blob_id), View(0, span.nbytes))
        try:
            self._open(reference.blob_id)
        except Damaged as error:
            log.error("%s; the tensor is coded standalone instead", error)
            return standalone
        return Chosen(reference, bits, standalone_bits)

    def _probe(self, source: Source, span: Span) -> Probe:
        """Codes the frame in the middle of a tensor."""
        start = (frame_count(span.nbytes) - 1) // 2 * FRAME_NBYTES
        nbytes = min(FRAME_NBYTES, span.nbytes - start)
        raw = cache(lambda: source.read_exactly(span.offset + start, nbytes))

        def probe(blob_id: int) -> float:
            try:
                theirs = self._frames.range(self._open(BlobId(blob_id)), start, nbytes)
            except Damaged:
                return math.inf
            return len(encode_frame(raw(), span.dtype, theirs, 0))

        return probe

    def _is_to_open(self, span: Span, mine: Mine, choice: Choice, base: bytes) -> bool:
        siblings = self._search.siblings(choice.blob_id, span.nbytes, mine.signature, SIBLINGS)
        return worth_opening(mine.sketch, span.nbytes, span.dtype, choice, base, siblings)

    def add(self, blob: Blob, mine: Mine) -> None:
        """Have a new tensor be found."""
        if blob.base is not None and blob.nbytes < LEAST_MEMBER_NBYTES:
            return
        self._new[blob.id] = mine
        base_id = None
        if blob.base is not None:
            base_id = blob.base.blob_id if blob.base.view == View(0, blob.nbytes) else OUTSIDE
        self._search.add(blob.id, blob.dtype, blob.nbytes, mine.sketch, mine.signature, base_id)

    def forget(self, blob_id: BlobId) -> None:
        self._new.pop(blob_id, None)
        self._search.forget(blob_id)

    def keep(self, txn: Transaction) -> None:
        """Write down what new tensors are compared by, in the transaction that registers them."""
        for blob_id, mine in self._new.items():
            txn.put_sketch(blob_id, mine.sketch, mine.signature)
