"""Bytes are taken for numbers where they are, and for nothing where they are anything else."""

from __future__ import annotations

import base64
import json
import pickle
import sqlite3
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zipfs.formats.guess import PLACES, SAMPLE_NBYTES, guess_dtype

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(0, 1, 40_000)


def guessed(content: bytes, offset: int = 0) -> str:
    return guess_dtype(lambda at, nbytes: content[at : at + nbytes], offset, len(content) - offset)


def bf16(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    bits = values.astype("<f4").view("<u4")
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    return rounded


def f16_as_f32(values: NDArray[np.float64]) -> bytes:
    return values.astype("<f2").astype("<f4").tobytes()


def bf16_as_f32(values: NDArray[np.float64]) -> bytes:
    return (bf16(values).astype("<u4") << 16).tobytes()


WRITTEN: dict[str, tuple[str, Callable[[NDArray[np.float64]], bytes]]] = {
    "F64": ("F64", lambda values: values.astype("<f8").tobytes()),
    "F32": ("F32", lambda values: values.astype("<f4").tobytes()),
    "BF16": ("BF16", lambda values: bf16(values).tobytes()),
    "F16": ("F16", lambda values: values.astype("<f2").tobytes()),
    "F64 of F32": ("F64", lambda values: values.astype("<f4").astype("<f8").tobytes()),
    "F32 of F16": ("F32", f16_as_f32),
    "F32 of BF16": ("F32", bf16_as_f32),
    "F32 squared": ("F32", lambda values: (values**2 * 1e-4).astype("<f4").tobytes()),
    "F32 half zero": ("F32", lambda values: np.maximum(values, 0).astype("<f4").tobytes()),
    "F32 around one": ("F32", lambda values: (1 + values).astype("<f4").tobytes()),
}


@pytest.mark.parametrize("scale", [1.0, 0.05, 0.002, 1e-4])
@pytest.mark.parametrize("items", [128, 1000, 40_000])
@pytest.mark.parametrize("name", WRITTEN)
def test_floats_are_recognised(name: str, items: int, scale: float) -> None:
    dtype, write = WRITTEN[name]
    assert guessed(write(WEIGHTS[:items] * scale)) == dtype


def test_small_integers_of_8_bytes_are_recognised() -> None:
    assert guessed(RNG.integers(0, 30_000, 1000).astype("<i8").tobytes()) == "I64"
    assert guessed(RNG.integers(-300, 300, 1000).astype("<i8").tobytes()) == "I64"


def sqlite_file(path: Path) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, size REAL)")
        rows = ((number, f"model.layers.{number}.weight", number / 7) for number in range(4000))
        connection.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
    return path.read_bytes()


SOURCE = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
SMOOTH = np.sin(np.arange(60_000) / 50)
OTHERS = {
    "zeros": bytes(70_000),
    "random": RNG.bytes(70_000),
    "source": SOURCE,
    "compressed": zlib.compress(SOURCE),
    "compressed floats": zlib.compress(WEIGHTS.astype("<f4").tobytes()),
    "base64": base64.b64encode(WEIGHTS.tobytes()),
    "hex": WEIGHTS.tobytes().hex().encode(),
    "UTF-16": SOURCE.decode().encode("utf-16-le"),
    "JSON of floats": json.dumps(WEIGHTS[:4000].tolist()).encode(),
    "digits": " ".join(map(str, range(20_000))).encode(),
    "pickle": pickle.dumps({f"layer.{number}": [number, number / 7, str(number)] for number in range(4000)}),
    "program": Path(sys.executable).read_bytes(),
    "bytes": RNG.integers(0, 100, 70_000, np.uint8).tobytes(),
    "I8 weights": np.clip(WEIGHTS * 40, -127, 127).astype("<i1").tobytes(),
    "U8 weights": np.clip(128 + WEIGHTS * 40, 0, 255).astype("<u1").tobytes(),
    "grey image": (SMOOTH * 100 + 100 + RNG.normal(0, 3, SMOOTH.size)).astype("<u1").tobytes(),
    "RGBA image": np.stack([RNG.integers(0, 200, 9000)] * 3 + [np.full(9000, 255)], 1).astype("<u1").tobytes(),
    "sound": (SMOOTH * 9000 + RNG.normal(0, 99, SMOOTH.size)).astype("<i2").tobytes(),
    "quiet sound": RNG.normal(0, 60, 30_000).astype("<i2").tobytes(),
    "token ids": RNG.zipf(1.3, 40_000).clip(0, 50_000).astype("<u2").tobytes(),
    "I32 counts": RNG.integers(0, 100_000, 20_000).astype("<i4").tobytes(),
    "I32 of either sign": RNG.integers(-1000, 1000, 20_000).astype("<i4").tobytes(),
    "U32 hashes": RNG.integers(0, 1 << 32, 20_000).astype("<u4").tobytes(),
    "I64 hashes": RNG.integers(0, 1 << 62, 20_000).astype("<i8").tobytes(),
    "offsets": np.cumsum(RNG.integers(0, 100_000, 20_000)).astype("<u4").tobytes(),
    "big-endian F32": WEIGHTS.astype(">f4").tobytes(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_float_is_taken_for_nothing(name: str) -> None:
    assert guessed(OTHERS[name]) == ""


def test_what_is_partly_floats_is_taken_for_nothing() -> None:
    assert guessed(WEIGHTS.astype("<f4").tobytes() + SOURCE) == ""


def test_items_begin_where_the_bytes_begin() -> None:
    content = b"abc" + WEIGHTS.astype("<f4").tobytes()
    assert guessed(content, 3) == "F32"
    assert guessed(content, 1) == ""


def test_too_few_bytes_are_taken_for_nothing() -> None:
    assert guessed(WEIGHTS[:60].astype("<f4").tobytes()) == ""
    assert guessed(b"") == ""


def test_little_is_read_of_much() -> None:
    asked: list[tuple[int, int]] = []

    def read(offset: int, nbytes: int) -> bytes:
        asked.append((offset, nbytes))
        return np.random.default_rng(offset).normal(0, 1, nbytes // 8).tobytes()

    assert guess_dtype(read, 100, 50 << 30) == "F64"
    assert sum(nbytes for _, nbytes in asked) == PLACES * SAMPLE_NBYTES
    assert min(asked)[0] == 100
    assert 0 <= 100 + (50 << 30) - sum(max(asked)) < PLACES * 8


@given(content=st.binary(max_size=3000))
def test_any_bytes_are_guessed_twice_alike(content: bytes) -> None:
    assert guessed(content) == guessed(content)


def test_a_file_that_is_shorter_than_was_said_is_no_error() -> None:
    assert guess_dtype(lambda offset, nbytes: b"", 0, 1 << 20) == ""
