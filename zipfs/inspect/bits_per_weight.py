"""How many stored bits a weight of a tensor takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zipfs.dtypes import BITS_OF_DTYPE, item_nbytes


def weight_count(nbytes: int, dtype: str) -> float:
    """Count the items of a tensor; 0 for what is no tensor."""
    bits = BITS_OF_DTYPE.get(dtype)
    return nbytes * 8 / bits if bits else 0.0


def units_per_weight(dtype: str) -> float:
    """Return how many of the units in which `dtype` is coded a weight takes; bits are predicted of these."""
    return BITS_OF_DTYPE.get(dtype, 8) / (8 * item_nbytes(dtype))


def bits_per_weight(stored_nbytes: float, weights: float) -> float | None:
    """Return stored bits for each of so many weights; None if there are none."""
    return stored_nbytes * 8 / weights if weights else None


def bits_of_dtypes(dtypes: Sequence[str]) -> NDArray[np.float64]:
    """Return the bits of an item of each type; 0 for "", which stands for plain bytes."""
    return np.array([BITS_OF_DTYPE.get(dtype, 0) for dtype in dtypes], np.float64)
