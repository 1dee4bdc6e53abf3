"""Owns the plan of how a file is stored: steps that share what is stored already, or code it, each with its reason.

Inspect, plan and execute alternate within a file: a tensor may equal one that was stored a moment ago, resemble it, or
find that a blob which was to be coded against a base is standalone after all, as the base was of no help. So the
planner yields a step at a time, and asks for the next one what is stored by then. It never writes; whoever carries a
step out never chooses. What needs bytes (whether they are equal, how small a sample of them really gets) it asks of a
`Content`, which a test may replace. Used by one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from zipfs.bases.similarity.alignment import PartialMatch
from zipfs.bases.similarity.base_choice import BaseChoice, Reason, choose_whole_base
from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.choose_base import MARGIN
from zipfs.bases.similarity.content import TensorContent
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.bases.similarity.partial_matches import search_partial_matches
from zipfs.codec import item_nbytes
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.inspect import SpanInspection
from zipfs.ingest.split_tensor import TensorPart, parts_of, parts_of_repetition
from zipfs.store.objects.values import BaseRef, BlobId, Extent

log = logging.getLogger(__name__)

_SEARCHED_BITS = 8 * (32 << 10)
"""Where a base of the same length leaves less to gain than this, partial matches are not searched."""


class Content(Protocol):
    """The bytes of the file that is planned."""

    def inspect(self, span: Span) -> SpanInspection:
        """Inspect a part of a tensor, which is to be stored by itself."""

    def features(self, found: SpanInspection) -> TensorFeatures | None:
        """Read the features of a tensor; None for what is none, or too small to gain by a base."""

    def tensor(self, span: Span) -> TensorContent:
        """Return the content of one tensor."""

    def has_bytes_of(self, span: Span, blob_id: BlobId, offset: int) -> bool:
        """Return whether a span has the very bytes of a blob from `offset` on. Raises Damaged."""


@dataclass(frozen=True, slots=True)
class Share:
    """A span that has the very bytes of a blob from `blob_offset` on."""

    span: Span
    blob_id: BlobId
    blob_offset: int
    reason: Reason = Reason.EQUAL

    def as_text(self) -> str:
        return f"share blob {self.blob_id} {self.blob_offset}+{self.span.nbytes}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Encode:
    """A span that becomes a blob, coded as `choice` says; it is found by others by its features and its sample."""

    found: SpanInspection
    choice: BaseChoice
    features: TensorFeatures | None = field(repr=False)

    @property
    def span(self) -> Span:
        return self.found.span

    @property
    def is_predicted(self) -> bool:
        """Return whether the stored size is predicted: it is of tensors that are large enough."""
        return self.choice.reason is not Reason.NO_FEATURES

    @property
    def predicted_nbytes(self) -> int:
        """Return the predicted stored size; the raw one where nothing is predicted."""
        choice, span = self.choice, self.found.span
        if not self.is_predicted:
            return span.nbytes
        bits = choice.standalone_bits if choice.base is None else choice.bits
        return min(span.nbytes, round(bits * span.nbytes / item_nbytes(span.dtype) / 8))

    def as_text(self) -> str:
        return f"encode {self.choice.as_text()}"


Step = Share | Encode


def share_zeros(span: Span, zeros: Extent) -> Iterator[Step]:
    """Yield the steps that store a hole: as ranges of a blob of zeros, which `zeros` is the whole of."""
    for at in range(0, span.nbytes, zeros.nbytes):
        part = Span(span.offset + at, min(zeros.nbytes, span.nbytes - at), "", (), span.name)
        yield Share(part, zeros.blob_id, 0, Reason.HOLE)


def share_unchanged(span: Span, shown: Extent) -> Share:
    """Return the step that stores what a file has unchanged of its older version."""
    return Share(span, shown.blob_id, shown.blob_offset, Reason.UNCHANGED)


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The steps that store a file, in the order of their spans."""

    steps: tuple[Step, ...]

    @property
    def predicted_nbytes(self) -> int:
        return sum(step.predicted_nbytes for step in self.steps if isinstance(step, Encode))

    @property
    def unpredicted_nbytes(self) -> int:
        """Return how many of the predicted bytes are raw ones, which may become fewer."""
        return sum(step.span.nbytes for step in self.steps if isinstance(step, Encode) and not step.is_predicted)

    def as_text(self) -> str:
        """Return a line for each step."""
        return "".join(f"{step.span.offset}+{step.span.nbytes} {step.as_text()}\n" for step in self.steps)


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans one file, span by span."""

    search: CandidateSearch
    content: Content

    def steps(self, found: SpanInspection) -> Iterator[Step]:
        """Yield the steps that store a span, in order; each is to be carried out before the next one is asked for."""
        same = self._equal_blob(found)
        if same is None:
            yield from self._new(found, with_members=True, may_repeat=True)
        else:
            yield Share(found.span, same, 0)

    def _equal_blob(self, found: SpanInspection) -> BlobId | None:
        """Return a blob with the very bytes of a span: the fingerprint finds it, a comparison decides."""
        for blob_id in self.search.maybe_equal(found.fingerprint, found.span.nbytes):
            try:
                if self.content.has_bytes_of(found.span, blob_id, 0):
                    return blob_id
            except Damaged:
                continue  # a copy that cannot be read is no reason to refuse a good one
        return None

    def _new(self, found: SpanInspection, *, with_members: bool, may_repeat: bool) -> Iterator[Step]:
        """Plan a span that is not stored as a whole: as one blob, or in parts that match something each.

        `with_members` lets parts be shared that seem to be equal to some of what has a base itself; `may_repeat` lets
        a part of the tensor be searched in the rest of it.
        """
        span, sample = found.span, found.sample
        features = self.content.features(found)
        choice = self._choose(span, features)
        matches: list[PartialMatch] = []
        if sample is not None and features is not None:
            standalone_bits = choice.standalone_bits
            if choice.base is None or choice.bits * sample.items > _SEARCHED_BITS:
                partial = search_partial_matches(
                    self.search,
                    sample,
                    span.dtype,
                    span.shape,
                    span.nbytes,
                    standalone_bits,
                    choice.base,
                    self.content.tensor(span),
                    members=with_members,
                )
                saved_bits = sum((match.stop - match.start) * (standalone_bits - match.bits) for match in partial)
                if saved_bits / sample.items > (standalone_bits - choice.bits) + MARGIN * standalone_bits:
                    matches = partial
                elif may_repeat and choice.base is None:
                    parts = [self.content.inspect(part) for part in parts_of_repetition(span, sample.repetition())]
                    if parts:
                        for part in parts:
                            yield from self._new(part, with_members=with_members, may_repeat=False)
                        return
        if not matches:
            yield Encode(found, choice, features)
            return
        for matched in parts_of(span, matches):
            yield from self._part(found, matched, features, choice, with_members=with_members, may_repeat=may_repeat)

    def _part(
        self,
        whole: SpanInspection,
        part: TensorPart,
        features: TensorFeatures | None,
        choice: BaseChoice,
        *,
        with_members: bool,
        may_repeat: bool,
    ) -> Iterator[Step]:
        found, base = whole, part.base
        if base is not None and part.is_equal:
            if self._is_range(part.span, base):
                yield Share(part.span, base.blob_id, base.view.offset, Reason.EQUAL_RANGE)
                return
            if self.content.tensor(part.span).blob(base.blob_id).base is not None:
                yield from self._new(self.content.inspect(part.span), with_members=False, may_repeat=may_repeat)
                return
        if part.span.nbytes < whole.span.nbytes:
            found = self.content.inspect(part.span)
            same = self._equal_blob(found)
            if same is not None:
                yield Share(part.span, same, 0)
                return
            if base is None:
                # By itself it has more sampled places, and may match what was missed.
                yield from self._new(found, with_members=with_members, may_repeat=False)
                return
            features = self.content.features(found)
        if base is not None:
            choice = BaseChoice(base, Reason.RANGE, part.bits, choice.standalone_bits)
        yield Encode(found, choice, features)

    def _choose(self, span: Span, features: TensorFeatures | None) -> BaseChoice:
        return choose_whole_base(self.search, features, span.dtype, span.nbytes, self.content.tensor(span))

    def _is_range(self, span: Span, base: BaseRef) -> bool:
        try:
            return self.content.has_bytes_of(span, base.blob_id, base.view.offset)
        except Damaged as error:
            log.error("%s; nothing is shared with it", error)
            return False
