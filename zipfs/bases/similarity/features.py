"""Owns the features of a tensor: the 2 KiB by which it is compared with others of its length. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zipfs.bases.similarity.signature import signature
from zipfs.bases.similarity.sketch import LEAST_NBYTES, sketch


@dataclass(frozen=True, slots=True)
class TensorFeatures:
    """A sketch, from which sizes are predicted, and its signature, by which sketches are found."""

    sketch: bytes
    signature: bytes


def read_features(read: Callable[[int, int], bytes], nbytes: int, dtype: str) -> TensorFeatures | None:
    """Return the features of a tensor, or None for plain bytes and for what is too small to gain by a base.

    `read(offset, length)` returns exactly those bytes of it.
    """
    if not dtype or nbytes < LEAST_NBYTES:
        return None
    made = sketch(read, nbytes, dtype)
    return TensorFeatures(made, signature(made, dtype))
