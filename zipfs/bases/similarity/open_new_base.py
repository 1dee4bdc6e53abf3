"""Owns the online rule: whether a tensor that could be coded against a base is coded standalone instead, to be a base.

It is a deterministic turn of the rule of A. Meyerson, Online Facility Location, 2001: a facility is opened where what
hangs on a far one has become worth its price.  Here what has come so far stands for what is still to come: the members
of the base that would be smaller against the new tensor.  Pure; any thread may call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from zipfs.bases.similarity.choose_base import Choice
from zipfs.bases.similarity.size_model import predict_matrix
from zipfs.codec import item_nbytes

POOR: Final = 0.5
"""Of what a tensor takes standalone: whoever has a base that makes it smaller than this stays with it unasked."""

SIBLINGS: Final = 16
"""Members that are looked at, those nearest to the new tensor."""

_FUTURE: Final = 1.0
"""What is yet to come, over what has come.  With 2, one checkpoint in six of a run was coded standalone, at 79 % of its
size beside 63, and ten of them took 3 % more; a shuffled hub of 40 families took 0.3 % less.
"""


def is_poor(choice: Choice) -> bool:
    """Return whether it is worth looking at the other members of the base."""
    return choice.predicted_nbytes > POOR * choice.predicted_standalone_nbytes


def worth_opening(mine: bytes, nbytes: int, dtype: str, choice: Choice, base: bytes, siblings: Sequence[bytes]) -> bool:
    """Return whether to code a tensor of `nbytes` bytes standalone although `choice` would save something.

    `mine`, `base` and `siblings` are sketches: of the tensor, of the base chosen, of members of that base.
    """
    if not siblings:
        return False
    bits = predict_matrix(siblings, [base, mine], dtype)
    saved = np.maximum(bits[:, 0] - bits[:, 1], 0.0)
    saved_nbytes = float(saved[np.isfinite(saved)].sum()) * nbytes / item_nbytes(dtype) / 8
    return _FUTURE * saved_nbytes > choice.predicted_standalone_nbytes - choice.predicted_nbytes
