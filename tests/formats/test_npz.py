"""The spans of an .npz file are the arrays that NumPy loads from it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.formats.contract import Tensors, tensors_in
from tests.formats.npy_files import saved
from tests.formats.npz_files import archive, savez
from zipfs.errors import NotThisFormat
from zipfs.formats.npz import parse_npz

FLOATS = np.random.default_rng(3).normal(size=(4, 5)).astype("<f4")


def tensors(content: bytes) -> Tensors:
    return tensors_in(parse_npz, content)


@given(
    st.dictionaries(
        st.text("abcdef./é", min_size=1, max_size=8).filter(lambda name: name.lower() != "file"),
        arrays.arrays("<f4", arrays.array_shapes(max_dims=3)),
        min_size=1,
        max_size=5,
    )
)
def test_stored_arrays_are_the_bytes_that_numpy_loads(given_arrays: dict[str, NDArray[np.generic]]) -> None:
    content = savez(**given_arrays)
    with np.load(io.BytesIO(content)) as loaded:
        assert tensors(content) == {name: ("F32", loaded[name].shape, loaded[name].tobytes()) for name in given_arrays}


def test_deflated_entries_and_those_of_other_kinds_are_plain() -> None:
    content = io.BytesIO(archive([("w.npy", saved(FLOATS)), ("o.npy", saved(np.zeros(3, ">f4"))), ("t.txt", b"text")]))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("d.npy", saved(FLOATS))
    assert tensors(content.getvalue()) == {"w": ("F32", (4, 5), FLOATS.tobytes())}


def test_an_array_that_leaves_its_entry_is_plain() -> None:
    content = archive([("a.npy", saved(FLOATS)[:-1]), ("b.npy", saved(FLOATS))])
    assert list(tensors(content)) == ["b"]


@pytest.mark.parametrize(
    "content",
    [
        archive([("w.npy", saved(FLOATS))], zipfile.ZIP_DEFLATED),
        archive([("w.bin", saved(FLOATS))]),
        archive([("w.npy", saved(FLOATS))])[:-1],
        b"#!" + archive([("w.npy", saved(FLOATS))]),
        saved(FLOATS),
    ],
)
def test_what_has_no_stored_array_is_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        tensors(content)
