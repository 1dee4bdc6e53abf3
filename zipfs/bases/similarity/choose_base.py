"""Owns the choice of a base for one tensor among candidates.  Pure; any thread may call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zipfs.bases.similarity.size_model import Bits, predict_against, predict_standalone
from zipfs.bases.similarity.sketch import parse
from zipfs.codec import item_nbytes

# What gains less costs a second blob per read for little.  Of 39 BF16 MiniLM tensors over 10 kB none was predicted
# below 1.03 of coding standalone against another of its length.  Single predictions against a base can be further off
# than this (size_model.py); on five fine-tunes of MiniLM that never led to a wrong base.
MARGIN: Final = 0.05

# Tensors of a few hundred items are predicted least well, and unrelated ones down to 0.89 of coding standalone, which
# saves fewer bytes than this; all 64 of MiniLM are refused.  In five fine-tunes it costs 246 bytes.
MIN_SAVED_NBYTES: Final = 128


TIE: Final = 0.06
"""By so much, of the smaller one, two predictions may differ and have the wrong one of two bases look better."""
_PROBED: Final = 4

Probe = Callable[[int], float]
"""The size to which a part of the tensor is really coded against a candidate, given its blob id, in any unit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best base: its blob id and the predicted bytes of the tensor against it and standalone."""

    blob_id: int
    predicted_nbytes: int
    predicted_standalone_nbytes: int


def choose_base(
    mine: bytes,
    nbytes: int,
    dtype: str,
    candidates: Sequence[tuple[int, bytes]],
    *,
    standalone: float | None = None,
    probe: Probe | None = None,
) -> Choice | None:
    """Return the candidate (blob id, sketch) that a tensor of `nbytes` bytes is predicted to be smallest against,
    or None.

    None if coding standalone is predicted to be as good but for MARGIN and MIN_SAVED_NBYTES.  Of equal candidates the
    first is taken.  What is not a sketch, or is one of a tensor of another length or item size, is passed
    over.  `standalone` is what `predict_standalone` says, if that is known.  Between candidates that are predicted to
    be about as good, `probe` decides.
    """
    if not candidates or not nbytes:
        return None
    standalone = predict_standalone(mine, dtype) if standalone is None else standalone
    against = predict_against(mine, [stored for _, stored in candidates], dtype)
    return choose_predicted(mine, nbytes, dtype, [blob_id for blob_id, _ in candidates], against, standalone, probe)


def choose_predicted(
    mine: bytes,
    nbytes: int,
    dtype: str,
    blob_ids: Sequence[int],
    against: Bits,
    standalone: float,
    probe: Probe | None,
) -> Choice | None:
    """Return the choice among `blob_ids`, against which these bits are predicted; None as for `choose_base`."""
    if not blob_ids or not nbytes:
        return None
    best = int(np.argmin(against))
    if not np.isfinite(against[best]):
        return None
    if probe is not None and not _is_exact(mine):
        best = _best_of_ties(against, blob_ids, probe)
    bytes_per_bit = nbytes / item_nbytes(dtype) / 8
    against_nbytes, standalone_nbytes = float(against[best]) * bytes_per_bit, standalone * bytes_per_bit
    if against_nbytes > standalone_nbytes * (1 - MARGIN) or against_nbytes > standalone_nbytes - MIN_SAVED_NBYTES:
        return None
    return Choice(blob_ids[best], round(against_nbytes), round(standalone_nbytes))


def _is_exact(mine: bytes) -> bool:
    """Return whether a tensor is not predicted but coded, as it is small."""
    samples = parse(mine)
    return samples is not None and samples.is_whole


def _best_of_ties(against: Bits, blob_ids: Sequence[int], probe: Probe) -> int:
    """Return the index of the candidate that is the best in truth, of those that are nearly the best by prediction."""
    near = [int(index) for index in np.argsort(against, kind="stable")[:_PROBED]]
    near = [index for index in near if against[index] <= (1 + TIE) * against[near[0]]]
    if len(near) == 1:
        return near[0]
    return min(near, key=lambda index: probe(blob_ids[index]))
