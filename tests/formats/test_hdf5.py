"""The spans of an HDF5 file are the datasets that h5py reads from it."""

from __future__ import annotations

import io

import h5py  # type: ignore[import-untyped]
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.formats.contract import Tensors, tensors_in
from tests.formats.hdf5_files import LIBVERS, fill_circle, fill_many, fill_some, hdf5
from tests.formats.npz_files import archive
from zipfs.errors import NotThisFormat
from zipfs.formats import hdf5 as hdf5_format
from zipfs.formats.hdf5 import parse_hdf5
from zipfs.formats.keras import parse_keras

TYPES = {
    "<f2": "F16", "<f4": "F32", "<f8": "F64", "i1": "I8", "<i2": "I16", "<i4": "I32", "<i8": "I64", "u1": "U8",
    "<u2": "U16", "<u4": "U32", "<u8": "U64", "?": "U8", "V2": "BF16",
}  # fmt: skip


def tensors(content: bytes) -> Tensors:
    return tensors_in(parse_hdf5, content)


def read_by_h5py(content: bytes) -> Tensors:
    """The datasets that h5py finds, those alone that are to be taken."""
    found: Tensors = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is None and item.dtype.str in TYPES and item.size:
            found[name] = (TYPES[item.dtype.str], item.shape, item[()].tobytes())

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_dataset_is_a_tensor(dtype: str, libver: str) -> None:
    array = np.arange(12).astype("i1" if dtype == "V2" else dtype)
    data = np.frombuffer(bytes(24), "V2") if dtype == "V2" else array.reshape(3, 4)
    content = hdf5(lambda file: file.__setitem__("w", data), libver=libver)
    assert tensors(content) == {"w": (TYPES[dtype], data.shape, data.tobytes())}


def test_a_bfloat16_of_ml_dtypes_is_one() -> None:
    data = np.arange(12).astype(ml_dtypes.bfloat16)
    content = hdf5(lambda file: file.create_dataset("w", data=data.view("V2")).attrs.__setitem__("dtype", "bfloat16"))
    assert tensors(content) == {"w": ("BF16", (12,), data.tobytes())}


@pytest.mark.parametrize("options", [*({"libver": libver} for libver in LIBVERS), {"track_order": True}], ids=str)
@pytest.mark.parametrize("fill", [fill_some, fill_many])
def test_groups_of_every_kind_are_walked(fill: object, options: dict[str, object]) -> None:
    assert callable(fill)
    content = hdf5(fill, **options)
    found = tensors(content)
    assert found == read_by_h5py(content)
    assert len(found) in (3, 300)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_so_many_links_that_a_heap_has_blocks_of_blocks_are_walked(libver: str) -> None:
    def fill(file: h5py.File) -> None:
        for number in range(1500):
            file[f"{'long' * 30}{number}"] = file["w"] if number else np.arange(3, dtype="<f4")
            if not number:
                file["w"] = file[f"{'long' * 30}0"]
        file["z"] = np.arange(7, dtype="<f4")

    found = tensors(hdf5(fill, libver=libver))
    assert len(found) == 2
    assert found["z"] == ("F32", (7,), np.arange(7, dtype="<f4").tobytes())


@pytest.mark.parametrize("libver", LIBVERS)
def test_circles_of_groups_are_walked_once(libver: str) -> None:
    found = tensors(hdf5(fill_circle, libver=libver))
    assert list(found.values()) == [("F32", (5,), np.arange(5, dtype="<f4").tobytes())]


@pytest.mark.parametrize("libver", LIBVERS)
def test_a_file_that_was_changed_is_read_as_it_is_now(libver: str) -> None:
    content = io.BytesIO(hdf5(fill_many, libver=libver))
    with h5py.File(content, "r+", libver=libver) as file:
        file["layers/number_0007"][1] = 99
        file["layers/new"] = np.arange(9, dtype="<i4")
        file["layers/number_0008"].attrs["note"] = "x" * 5000
        del file["layers/number_0299"]
    changed = content.getvalue()
    found, wanted = tensors(changed), read_by_h5py(changed)
    assert found["layers/number_0007"] == wanted["layers/number_0007"]
    assert {**wanted, **found} == wanted or set(found) - set(wanted) == {"layers/number_0299"}
    assert len(found) >= 299


@given(
    st.dictionaries(
        st.text("abc/é", min_size=1, max_size=6).map(lambda name: f"x{name}y"),
        arrays.arrays(st.sampled_from(["<f4", "<f2", "<i8", ">f4"]), arrays.array_shapes(max_dims=3)),
        max_size=12,
    ),
    st.sampled_from(LIBVERS),
)
@settings(max_examples=25)
def test_any_datasets_are_those_that_h5py_reads(given_arrays: dict[str, NDArray[np.generic]], libver: str) -> None:
    def fill(file: h5py.File) -> None:
        for name, array in given_arrays.items():
            if not any(other != name and f"{other}/".startswith(f"{name}/") for other in given_arrays):
                file[name] = array

    content = hdf5(fill, libver=libver)
    wanted = read_by_h5py(content)
    if wanted:
        assert tensors(content) == wanted


def test_chunked_compressed_and_other_types_are_plain() -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("chunked", data=np.arange(40.0), chunks=(10,))
        file.create_dataset("compressed", data=np.arange(400.0), compression="gzip")
        file["text"] = "text"
        file["pairs"] = np.zeros(3, "<c8")
        file["never"] = h5py.Empty("<f4")
        file.create_dataset("unwritten", shape=(5,), dtype="<f4")

    with pytest.raises(NotThisFormat, match="no contiguous dataset"):
        tensors(hdf5(fill))


def test_a_damaged_group_costs_none_of_the_others() -> None:
    def fill(file: h5py.File) -> None:
        file["a/w"] = np.arange(5, dtype="<f4")
        file["b/w"] = np.arange(6, dtype="<f4")

    content = hdf5(fill)
    at = content.rindex(b"SNOD")
    assert list(tensors(content[:at] + b"NONE" + content[at + 4 :])) == ["a/w"]


def test_a_file_with_more_in_it_than_is_looked_at_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_format, "MAX_STEPS", 5000)
    assert 10 < len(tensors(hdf5(fill_many))) < 290


def test_the_weights_of_a_keras_file_are_its_tensors() -> None:
    weights = hdf5(fill_some)
    content = archive([("config.json", b"{}"), ("model.weights.h5", weights)])
    assert tensors_in(parse_keras, content) == tensors(weights)


@pytest.mark.parametrize(
    "entries", [[("model.weights.h5", b"")], [("config.json", b"{}")], [("w.h5", hdf5(fill_some)[:90])]]
)
def test_an_archive_without_weights_is_refused(entries: list[tuple[str, bytes]]) -> None:
    content = archive(entries)
    with pytest.raises(NotThisFormat):
        parse_keras(lambda offset, nbytes: content[offset : offset + nbytes], len(content))
