"""Owns what an ingest is measured on: generated BF16 models, seeded, so that every run stores the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import TensorSpec, serialize_file

ROW_ITEMS: Final = 2048
LARGE_ITEMS: Final = 16 << 20
"""A tensor of 32 MiB."""
SMALL_ITEMS: Final = 72 * ROW_ITEMS
"""A tensor of 0.3 MB, which one frame holds."""
SMALL_TENSORS: Final = 16
FAMILIES: Final = 20
SIGMA: Final = 0.02
NOISE: Final = 0.003
"""What a fine-tune moves the weights by, over their deviation."""

Floats = NDArray[np.float32]


def make_large(folder: Path, nbytes: int) -> None:
    """Write `base` and `tuned`, of about `nbytes` bytes each, in tensors of LARGE_ITEMS at most."""
    random = np.random.default_rng(1)
    base, tuned = [], []
    left = max(nbytes // 2, ROW_ITEMS)
    while left >= ROW_ITEMS:
        items = min(left, LARGE_ITEMS) // ROW_ITEMS * ROW_ITEMS
        weights = _weights(random, items)
        base.append(_bf16(weights))
        tuned.append(_bf16(_moved(random, weights)))
        left -= items
    _write_model(folder / "base", base)
    _write_model(folder / "tuned", tuned)


def make_small(folder: Path, models: int) -> None:
    """Write models of SMALL_TENSORS tensors; each is a fine-tune of one of FAMILIES, which arrive by turns."""
    random = np.random.default_rng(2)
    centres = [[_weights(random, SMALL_ITEMS) for _ in range(SMALL_TENSORS)] for _ in range(min(models, FAMILIES))]
    for number in range(models):
        tensors = centres[number % FAMILIES]
        if number >= FAMILIES:
            tensors = [_moved(random, weights) for weights in tensors]
        _write_model(folder / f"model-{number:04}", [_bf16(weights) for weights in tensors])


def _weights(random: np.random.Generator, items: int) -> Floats:
    return random.standard_normal(items, np.float32) * np.float32(SIGMA)


def _moved(random: np.random.Generator, weights: Floats) -> Floats:
    return weights + random.standard_normal(weights.size, np.float32) * np.float32(SIGMA * NOISE)


def _bf16(values: Floats) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16).reshape(-1, ROW_ITEMS)


def _write_model(folder: Path, tensors: Sequence[NDArray[Any]]) -> None:
    folder.mkdir(parents=True)
    specs = {
        f"model.layers.{at}.weight": TensorSpec(
            dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes
        )
        for at, bits in enumerate(tensors)
    }
    serialize_file(specs, folder / "model.safetensors", {"format": "pt"})
