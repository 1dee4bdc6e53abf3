"""Tensors of block types for tests: blocks with a scale of two bytes and small codes, as quantised ones are."""

from __future__ import annotations

import numpy as np

from zipfs.dtypes import BLOCK_DTYPES


def blocks(dtype: str, nbytes: int, seed: int = 0, *, spread: float = 2.0) -> bytes:
    """Return the bytes of whole blocks, and of a part of one at the end."""
    rng = np.random.default_rng(seed)
    block = BLOCK_DTYPES[dtype].block_nbytes
    count = -(-nbytes // block)
    whole = np.clip(rng.normal(128.5, spread, (count, block)), 0, 255).astype(np.uint8)
    whole[:, :2] = rng.normal(0.01, 0.001, (count, 1)).astype("<f2").view(np.uint8)
    return whole.tobytes()[:nbytes]


def tuned_blocks(raw: bytes, seed: int = 1, share: float = 0.02) -> bytes:
    """Return bytes of which a share differs from `raw` by one."""
    rng = np.random.default_rng(seed)
    changed = np.frombuffer(raw, np.uint8) ^ (rng.random(len(raw)) < share).view(np.uint8)
    return changed.tobytes()


def weights_of(dtype: str, nbytes: int) -> int:
    """Return how many weights the whole blocks in so many bytes hold."""
    block = BLOCK_DTYPES[dtype]
    return nbytes // block.block_nbytes * block.block_weights
