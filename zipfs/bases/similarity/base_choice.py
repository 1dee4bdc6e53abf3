"""Owns the base choice: what a tensor is coded against as a whole, if anything, and why.

`choose_base` compares sketches; here its candidates are searched, samples are coded where it is in doubt, and the rule
that opens a new base is applied. What led to a stored blob is reconstructed by these rules, too. Used by the thread
whose candidates they are.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.choose_base import MIN_SAVED_NBYTES, Choice, choose_base, choose_predicted
from zipfs.bases.similarity.content import TensorContent
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.bases.similarity.open_new_base import SIBLINGS, is_poor, worth_opening
from zipfs.bases.similarity.size_model import Bits, predict_standalone
from zipfs.bases.similarity.sketch import LEAST_NBYTES
from zipfs.codec import item_nbytes
from zipfs.errors import Damaged
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId

log = logging.getLogger(__name__)


class Reason(enum.StrEnum):
    """Why bytes are coded as they are."""

    NO_FEATURES = "no tensor, or too small to gain by a base"
    CONSTANT = "no base could save enough"
    NO_CANDIDATE = "nothing that came before resembles it"
    NO_GAIN = "no candidate saves enough"
    SMALLEST = "predicted to be smallest"
    NEW_BASE = "is to be a base itself"
    DAMAGED = "its base cannot be read"
    RANGE = "resembles a range"
    PLANNED = "makes its cluster smallest"
    EQUAL = "equal bytes"
    EQUAL_RANGE = "equal bytes of a range"
    HOLE = "zeros of a hole"
    UNCHANGED = "unchanged since it was stored"


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
    if _gains_too_little(standalone_bits, dtype, nbytes):
        return BaseChoice(None, Reason.CONSTANT, standalone_bits, standalone_bits)
    candidates = search.of_same_length(dtype, nbytes, features.signature)
    choice = choose_base(
        features.sketch,
        nbytes,
        dtype,
        candidates,
        standalone=standalone_bits,
        probe=lambda blob_id: content.coded_nbytes(BlobId(blob_id)),
    )
    chosen = _with_new_bases(search, features, dtype, nbytes, standalone_bits, candidates, choice)
    if chosen.base is None:
        return chosen
    try:
        content.blob(chosen.base.blob_id)
    except Damaged as error:
        log.error("%s; the tensor is coded standalone instead", error)
        return BaseChoice(None, Reason.DAMAGED, standalone_bits, standalone_bits, chosen.considered)
    return chosen


def reconstruct_choice(
    search: CandidateSearch,
    blob: Blob,
    features: TensorFeatures | None,
    candidates: Sequence[tuple[BlobId, bytes]],
    against: Bits,
    standalone_bits: float,
    *,
    oldest_member: BlobId | None,
    is_whole: bool,
) -> BaseChoice | None:
    """Return the choice by which a stored blob is coded as it is; None where what is stored now does not tell.

    `candidates` are of its length, its base among them, and `against` is predicted of each. Sketches are all that is
    looked at: of bases that are predicted to be about as good, the stored one counts as the best. `is_whole` says that
    its base, if it has one, is taken whole and as it is; `oldest_member` came first of those that are coded against it.
    """
    if blob.base is not None and not is_whole:
        return BaseChoice(blob.base, Reason.RANGE)
    # Ids ascend, and an ingest knows only what came before.
    younger_base = blob.base is not None and blob.base.blob_id > blob.id
    if younger_base or (oldest_member is not None and oldest_member < blob.id):
        return BaseChoice(blob.base, Reason.PLANNED)
    if not blob.dtype or blob.nbytes < LEAST_NBYTES:
        return NO_FEATURES
    if features is None or not math.isfinite(standalone_bits):
        return None
    if blob.base is None and _gains_too_little(standalone_bits, blob.dtype, blob.nbytes):
        return BaseChoice(None, Reason.CONSTANT, standalone_bits, standalone_bits)
    before = [at for at, (blob_id, _) in enumerate(candidates) if blob_id < blob.id]
    base_id = None if blob.base is None else blob.base.blob_id
    earlier = [candidates[at] for at in before]
    choice = choose_predicted(
        features.sketch,
        blob.nbytes,
        blob.dtype,
        [blob_id for blob_id, _ in earlier],
        against[before],
        standalone_bits,
        lambda blob_id: float(blob_id != base_id),
    )
    if base_id is None:
        chosen = _with_new_bases(search, features, blob.dtype, blob.nbytes, standalone_bits, earlier, choice)
        return chosen if chosen.base is None else None
    if choice is None or choice.blob_id != base_id:
        return None
    return _smallest(choice, blob.dtype, blob.nbytes, standalone_bits, earlier)


def _gains_too_little(standalone_bits: float, dtype: str, nbytes: int) -> bool:
    return standalone_bits * nbytes <= MIN_SAVED_NBYTES * 8 * item_nbytes(dtype)


def _with_new_bases(
    search: CandidateSearch,
    features: TensorFeatures,
    dtype: str,
    nbytes: int,
    standalone_bits: float,
    candidates: Sequence[tuple[BlobId, bytes]],
    choice: Choice | None,
) -> BaseChoice:
    """Return what is to be done of a choice by sketches: the rule that opens a new base may pass it over."""
    considered = tuple(blob_id for blob_id, _ in candidates)
    if choice is None:
        reason = Reason.NO_GAIN if candidates else Reason.NO_CANDIDATE
        return BaseChoice(None, reason, standalone_bits, standalone_bits, considered)
    chosen = _smallest(choice, dtype, nbytes, standalone_bits, candidates)
    base = dict(candidates)[BlobId(choice.blob_id)]
    if is_poor(choice) and _is_to_open(search, features, dtype, nbytes, choice, base):
        return BaseChoice(None, Reason.NEW_BASE, chosen.bits, standalone_bits, considered)
    return chosen


def _smallest(
    choice: Choice, dtype: str, nbytes: int, standalone_bits: float, candidates: Sequence[tuple[BlobId, bytes]]
) -> BaseChoice:
    bits = choice.predicted_nbytes * 8 * item_nbytes(dtype) / nbytes
    base = BaseRef(BlobId(choice.blob_id), View(0, nbytes))
    return BaseChoice(base, Reason.SMALLEST, bits, standalone_bits, tuple(blob_id for blob_id, _ in candidates))


def _is_to_open(
    search: CandidateSearch, features: TensorFeatures, dtype: str, nbytes: int, choice: Choice, base: bytes
) -> bool:
    siblings = search.siblings(BlobId(choice.blob_id), nbytes, features.signature, SIBLINGS)
    return worth_opening(features.sketch, nbytes, dtype, choice, base, siblings)
