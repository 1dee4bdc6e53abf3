"""Files of Flax, valid and hostile, as bytes; says nothing of what should come of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np


def packed(value: Any) -> bytes:
    """A tree as Flax serializes it: arrays are extensions of type 1, scalars of type 3."""

    def extension(array: object) -> msgpack.ExtType:
        assert isinstance(array, (np.ndarray, np.generic))
        content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
        return msgpack.ExtType(1 if isinstance(array, np.ndarray) else 3, content)

    content = msgpack.packb(value, default=extension, strict_types=True)
    assert isinstance(content, bytes)
    return content


def with_extension(content: bytes, code: int = 1) -> bytes:
    """A map with a good array and, before it, an extension that holds `content`."""
    return packed({"a": msgpack.ExtType(code, content), "w": np.arange(40, dtype="<f4")})


def flax_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of Flax."""
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    good = packed({"params": {"dense": {"kernel": array, "bias": array[0]}, "step": 3, "lr": 0.5}})
    yield "flax-good", good
    yield (
        "flax-kinds",
        packed(
            {
                "a": [array, None, True, -5, -500, 2**40, 1.5, "x" * 300, b"y" * 300],
                "s": np.float32(2),
                "long" * 20: array,
            }
        ),
    )
    yield "flax-many", packed({f"w{number}": array for number in range(40)})
    yield "flax-no-array", packed({"a": {"b": "text" * 5}})
    yield "flax-cut", good[:-1]
    yield "flax-behind", good + b"\xc0"
    yield "flax-key-is-map", b"\x82\xa1a\x01\x81\x01\x02\x03" + good
    yield "flax-number-keys", packed({"a": {1: array, 2: array}})
    for number, start in enumerate(("df000000", "deff", "dfffffffff", "81a161c9ffffffff01", "81a161c6ffffffff")):
        yield f"flax-length-{number}", bytes.fromhex(start) + good[1:]
    yield "flax-deep", b"\x81\xa1a" * 5000 + good
    yield "flax-lists", b"\x81\xa1a" + b"\x91" * 5000 + good
    yield "flax-no-value", b"\x82\xa1a\xc1" + good[1:]
    items = array.tobytes()
    for number, value in enumerate(
        (
            (array.shape, "float32", items),
            ((3, 5), "float32", items),
            ((3, 4), "float99", items),
            ((2**63, 4), "float32", items),
            ((-3, -4), "float32", items),
            ((1,) * 40, "float32", items),
            ((3, 4), "float32", items, 1),
            ((3, 4), items, "float32"),
            ("float32", (3, 4), items),
            ((3, 4), "float32"),
            ((), "float32", items[:4]),
            ((0,), "float32", b""),
            5,
            None,
        )
    ):
        yield f"flax-array-{number}", with_extension(msgpack.packb(value))
    yield "flax-array-cut", with_extension(msgpack.packb((array.shape, "float32", items))[:-1])
    yield "flax-array-behind", with_extension(msgpack.packb((array.shape, "float32", items)) + b"\0")
    yield "flax-array-empty", with_extension(b"")
