"""Owns the base choice: what a tensor is coded against as a whole, if anything, and why.

`choose_base` compares sketches; here its candidates are searched, samples are coded where it is in doubt, and the rule
that opens a new base is applied. Used by the thread whose candidates they are.
"""

from __future__ import annotations

import enum
import logging
import math
from dataclasses import dataclass
from typing import Final

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.choose_base import MIN_SAVED_NBYTES, Choice, choose_base
from zipfs.bases.similarity.content import TensorContent
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.bases.similarity.open_new_base import SIBLINGS, is_poor, worth_opening
from zipfs.bases.similarity.size_model import predict_standalone
from zipfs.codec import item_nbytes
from zipfs.errors import Damaged
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, BlobId

log = logging.getLogger(__name__)


class Reason(enum.StrEnum):
    """Why bytes are coded as they are."""

    NO_FEATURES = "no tensor, or too small to gain by a base"
    CONSTANT = "no base could save enough"
    NO_CANDIDATE = "nothing stored resembles it"
    NO_GAIN = "no candidate saves enough"
    SMALLEST = "predicted to be smallest"
    NEW_BASE = "is to be a base itself"
    DAMAGED = "its base cannot be read"
    RANGE = "resembles a range"
    PLANNED = "makes its cluster smallest"


@dataclass(frozen=True, slots=True)
class BaseChoice:
    """What some bytes are to be coded against, None for standalone, and why.

    `bits` and `standalone_bits` are predicted of an item. `bits` are also given of a base that is passed over so that
    the tensor can be one itself: ranges that resemble others have to save clearly more than that base would.
    """

    base: BaseRef | None
    reason: Reason
    bits: float = math.nan
    standalone_bits: float = math.nan
    considered: tuple[BlobId, ...] = ()
    """The candidates that were compared."""

    def as_text(self) -> str:
        """Return what a person reads of it."""
        if self.base is None:
            what = "standalone"
        else:
            view = self.base.view
            cast = "" if view.cast is None else f" cast {view.cast}"
            what = f"against blob {self.base.blob_id} {view.offset}+{view.nbytes}{cast}"
        predicted = ""
        if not math.isnan(self.bits):
            predicted = f", {self.bits:.2f} bits an item, {self.standalone_bits:.2f} standalone"
        among = f" of {len(self.considered)}" if self.considered else ""
        return f"{what}: {self.reason}{among}{predicted}"


NO_FEATURES: Final = BaseChoice(None, Reason.NO_FEATURES)


def choose_whole_base(
    search: CandidateSearch, features: TensorFeatures | None, dtype: str, nbytes: int, content: TensorContent
) -> BaseChoice:
    """Choose a base of the length of a tensor. Raises what reading `content` raises, but for damaged bases."""
    if features is None:
        return NO_FEATURES
    standalone_bits = predict_standalone(features.sketch, dtype)

    def standalone(reason: Reason, bits: float = standalone_bits) -> BaseChoice:
        return BaseChoice(None, reason, bits, standalone_bits, considered)

    considered: tuple[BlobId, ...] = ()
    if standalone_bits * nbytes <= MIN_SAVED_NBYTES * 8 * item_nbytes(dtype):
        return standalone(Reason.CONSTANT)
    candidates = search.of_same_length(dtype, nbytes, features.signature)
    considered = tuple(blob_id for blob_id, _ in candidates)
    choice = choose_base(
        features.sketch,
        nbytes,
        dtype,
        candidates,
        standalone=standalone_bits,
        probe=lambda blob_id: content.coded_nbytes(BlobId(blob_id)),
    )
    if choice is None:
        return standalone(Reason.NO_GAIN if candidates else Reason.NO_CANDIDATE)
    base_id = BlobId(choice.blob_id)
    bits = choice.predicted_nbytes * 8 * item_nbytes(dtype) / nbytes
    if is_poor(choice) and _is_to_open(search, features, dtype, nbytes, choice, dict(candidates)[base_id]):
        return standalone(Reason.NEW_BASE, bits)
    try:
        content.blob(base_id)
    except Damaged as error:
        log.error("%s; the tensor is coded standalone instead", error)
        return standalone(Reason.DAMAGED)
    return BaseChoice(BaseRef(base_id, View(0, nbytes)), Reason.SMALLEST, bits, standalone_bits, considered)


def _is_to_open(
    search: CandidateSearch, features: TensorFeatures, dtype: str, nbytes: int, choice: Choice, base: bytes
) -> bool:
    siblings = search.siblings(BlobId(choice.blob_id), nbytes, features.signature, SIBLINGS)
    return worth_opening(features.sketch, nbytes, dtype, choice, base, siblings)
