"""Tensors that lie in files of no known format share with those that were taken apart, and are coded against them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.stores import contents, problems, put_file, served_inode, tensor_file
from zipfs.store.store import Store, open_store

RNG = np.random.default_rng(7)
SHAPES = {"embed": (900, 256), "up": (256, 512), "down": (512, 256), "query": (256, 256), "norm": (256, 1)}
TEXT = Path(__file__).read_bytes()
BASE = {name: RNG.normal(0, 0.05, shape).astype("<f4") for name, shape in SHAPES.items()}
TUNED = {name: (values + RNG.normal(0, 1e-6, values.shape)).astype("<f4") for name, values in BASE.items()}


def safetensors(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    return tensor_file({name: ("F32", list(values.shape), values.tobytes()) for name, values in tensors.items()})


def dump(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    """Return the tensors in another order, with text of odd lengths between."""
    parts = [TEXT[:3001]]
    for number, name in enumerate(sorted(tensors)):
        parts += [tensors[name].tobytes(), TEXT[: 101 + 38 * number]]
    return b"".join(parts)


FILES = {
    "dump of stored tensors": (safetensors(BASE), dump(BASE), 0.02),
    "stored tensors of a dump": (dump(BASE), safetensors(BASE), 0.12),
    "dump of tuned tensors": (safetensors(BASE), dump(TUNED), 0.45),
    "tuned tensors of a dump": (dump(BASE), safetensors(TUNED), 0.45),
    "dump of tensors that were dumped": (dump(BASE), dump(TUNED), 0.45),
}


@pytest.mark.parametrize("name", FILES)
def test_what_was_stored_is_found(tmp_path: Path, name: str) -> None:
    first, second, at_most = FILES[name]
    with open_store(tmp_path / "store", create=True) as store:
        put(store, tmp_path, b"first", first)
        assert put(store, tmp_path, b"second", second) < at_most * len(second)
        assert problems(store) == []
    assert contents(tmp_path / "store") == {b"first": first, b"second": second}


def put(store: Store, root: Path, name: bytes, content: bytes) -> int:
    assert put_file(store, root / "scratch", name, content).failures == []
    return served_inode(store, name).stored_nbytes
