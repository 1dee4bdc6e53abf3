"""The spans of a file of Flax are the arrays that msgpack reads from it."""

from __future__ import annotations

import ml_dtypes
import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.formats.contract import Tensors, tensors_in
from tests.formats.flax_files import packed, with_extension
from tests.formats.written_samples import written
from zipfs.errors import NotThisFormat
from zipfs.formats import flax
from zipfs.formats.flax import parse_flax

ARRAY = np.arange(12, dtype="<f4").reshape(3, 4)
TYPES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL", "complex64": "C64",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int4": "U8",
}  # fmt: skip


def tensors(content: bytes) -> Tensors:
    return tensors_in(parse_flax, content)


@pytest.mark.parametrize("dtype", TYPES)
def test_an_array_is_a_tensor(dtype: str) -> None:
    array = np.ones((3, 4)).astype(getattr(ml_dtypes, dtype, dtype))
    assert tensors(packed({"params": {"w": array}})) == {"params/w": (TYPES[dtype], (3, 4), array.tobytes())}


TREES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=40),
        st.binary(max_size=300),
        st.builds(np.zeros, st.lists(st.integers(0, 4), max_size=3), st.sampled_from(["<f4", "<f2", "|u1"])),
    ),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text("abcd", min_size=1), inner, max_size=20),
    max_leaves=25,
)


def arrays_in(tree: object) -> list[NDArray[np.generic]]:
    if isinstance(tree, np.ndarray):
        return [tree] if tree.size else []
    inner = list(tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [array for value in inner for array in arrays_in(value)]


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=30), TREES, min_size=1, max_size=5))
@settings(max_examples=30)
def test_all_arrays_of_any_tree_are_found(tree: dict[str, object]) -> None:
    content = packed({**tree, "z": ARRAY})
    wanted = [*arrays_in(tree), ARRAY]
    assert [items for _, _, items in tensors(content).values()] == [array.tobytes() for array in wanted]


def test_pieces_of_a_large_array_are_arrays() -> None:
    pieces = {"0": ARRAY.ravel()[:7], "1": ARRAY.ravel()[7:]}
    tree = {"w": {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": pieces}}
    assert tensors(packed(tree)) == {
        "w/chunks/0": ("F32", (7,), ARRAY.tobytes()[:28]),
        "w/chunks/1": ("F32", (5,), ARRAY.tobytes()[28:]),
    }


@pytest.mark.parametrize(
    "value",
    [
        ((3, 5), "float32", ARRAY.tobytes()),
        ((3, 4), "float99", ARRAY.tobytes()),
        ((2**63, 2**63), "float32", ARRAY.tobytes()),
        ((-3, -4), "float32", ARRAY.tobytes()),
        ((1,) * 40 + (12,), "float32", ARRAY.tobytes()),
        ("float32", (3, 4), ARRAY.tobytes()),
        5,
    ],
)
def test_an_array_that_is_not_what_it_says_costs_none_of_the_others(value: object) -> None:
    assert list(tensors(with_extension(msgpack.packb(value)))) == ["w"]


def test_files_that_flax_wrote_have_its_arrays() -> None:
    files = written("flax")
    for name in ("params", "train_state", "chunked"):
        wanted = {key.split(":")[1]: items for key, items in files.items() if key.startswith(f"{name}:")}
        found = tensors(files[f"{name}.msgpack"])
        assert {key: items for key, (_, _, items) in found.items()} == wanted
        assert wanted


def test_extensions_of_other_types_are_plain() -> None:
    assert list(tensors(with_extension(msgpack.packb((ARRAY.shape, "float32", ARRAY.tobytes())), 2))) == ["w"]


@pytest.mark.parametrize(
    "content",
    [
        packed({"a": "text"}),
        packed([ARRAY]),
        packed({"w": ARRAY})[:-1],
        packed({"w": ARRAY}) + b"\xc0",
        b"\x81\xa1a" * 5000 + packed({"w": ARRAY}),
        b"\xdf\xff\xff\xff\xff" + packed({"w": ARRAY})[1:],
        b"\x82\xa1w\xc1" + packed({"w": ARRAY})[1:],
    ],
)
def test_what_is_no_tree_of_arrays_is_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        tensors(content)


def test_a_file_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed({"w": ARRAY, "a": [0] * 1000})
    assert len(tensors(content)) == 1
    monkeypatch.setattr(flax, "MAX_VALUES", 1000)
    with pytest.raises(NotThisFormat, match="more than 1000 values"):
        tensors(content)


def test_names_that_are_too_long_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flax, "MAX_NAMES_LENGTH", 100)
    assert len(tensors(packed({"w" * 90: ARRAY}))) == 1
    with pytest.raises(NotThisFormat, match="names"):
        tensors(packed({"w" * 90: ARRAY, "v" * 90: ARRAY}))
