"""Bytes to write: noise, text, weights of a family of models, and safetensors files of them."""

from __future__ import annotations

import json
import random
from typing import Final

import numpy as np

_POOL_NBYTES: Final = 4 << 20


class Content:
    """Makes bytes from a seed. Ranges of two pools: what no codec makes smaller, and BF16 weights."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 0.05, _POOL_NBYTES // 2).astype("<f4")
        self._noise = rng.bytes(_POOL_NBYTES)
        self._weights = (values.view("<u4") >> 16).astype("<u2").tobytes()
        self._text = b"".join(b"line %d of a log\n" % number for number in range(60_000))

    def some(self, chance: random.Random, nbytes: int) -> bytes:
        """Bytes of any kind."""
        pool = chance.choice((self._noise, self._weights, self._text, None))
        if pool is None:
            return bytes([chance.randrange(256)]) * nbytes
        begin = chance.randrange(max(1, len(pool) - nbytes))
        return (pool[begin : begin + nbytes] * (nbytes // len(pool) + 1))[:nbytes]

    def model(self, chance: random.Random, at_most: int) -> bytes:
        """A safetensors file of one of four models, with weights that were trained on a little."""
        family = chance.randrange(4)
        shapes = random.Random(family)
        sizes = [shapes.randrange(16, max(17, at_most // 8)) * 2 for _ in range(3)]
        header: dict[str, object] = {}
        data = b""
        for number, nbytes in enumerate(sizes):
            begin = (family * 3 + number) * (_POOL_NBYTES // 16) & ~1
            raw = tuned(self._weights[begin : begin + nbytes], chance)
            offsets = [len(data), len(data) + len(raw)]
            header[f"layer.{number}"] = {"dtype": "BF16", "shape": [len(raw) // 2], "data_offsets": offsets}
            data += raw
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + data


def tuned(raw: bytes, chance: random.Random) -> bytes:
    """BF16 items of which some differ in their last bits."""
    items = np.frombuffer(raw[: len(raw) & ~1], "<u2")
    rng = np.random.default_rng(chance.randrange(1 << 32))
    change = rng.integers(0, 4, items.size, dtype="<u2") * (rng.random(items.size) < chance.choice((0.01, 0.5)))
    turned: bytes = (items ^ change.astype("<u2")).tobytes()
    return turned + raw[len(raw) & ~1 :]
