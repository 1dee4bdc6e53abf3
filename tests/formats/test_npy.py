"""The spans of an .npy file are the arrays that NumPy loads from it."""

from __future__ import annotations

import io

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.formats.npy_files import described, npy, saved
from zipfs.errors import NotThisFormat
from zipfs.formats import Span, lay_out
from zipfs.formats.npy import parse_npy

TYPES = {
    "<f2": "F16", "<f4": "F32", "<f8": "F64", "<i1": "I8", "<i2": "I16", "<i4": "I32", "<i8": "I64", "<u1": "U8",
    "<u2": "U16", "<u4": "U32", "<u8": "U64", "?": "BOOL", "<c8": "C64", "V2": "BF16",
}  # fmt: skip


def tensors(content: bytes) -> list[Span]:
    layout = parse_npy(lambda offset, nbytes: content[offset : offset + nbytes], len(content))
    assert sum(span.nbytes for span in layout.spans) == len(content)
    return [span for span in layout.spans if span.dtype]


def bytes_of(content: bytes, span: Span) -> bytes:
    return content[span.offset : span.offset + span.nbytes]


def shapes(array: NDArray[np.generic]) -> tuple[int, ...]:
    return array.shape[::-1] if array.flags.f_contiguous and not array.flags.c_contiguous else array.shape


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 1, 3)])
def test_an_array_is_a_tensor(dtype: str, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    nbytes = count * np.dtype(dtype).itemsize
    array = np.frombuffer(bytes(range(1, nbytes + 1)), dtype).reshape(shape)
    content = saved(array)
    (span,) = tensors(content)
    assert (span.dtype, span.shape, span.name) == (TYPES[dtype], shape, "arr_0")
    assert bytes_of(content, span) == array.tobytes()


@given(
    array=arrays.arrays(st.sampled_from(["<f4", "<i8", "|u1"]), arrays.array_shapes(max_dims=4)), turned=st.booleans()
)
def test_any_array_is_the_bytes_that_numpy_loads(array: NDArray[np.generic], turned: bool) -> None:
    content = saved(array.T if turned else array)
    loaded = np.load(io.BytesIO(content))
    (span,) = tensors(content)
    assert bytes_of(content, span) == loaded.tobytes("A")
    assert span.shape == shapes(loaded)


def test_a_complex_item_of_16_bytes_is_two_floats() -> None:
    (span,) = tensors(saved(np.zeros((2, 3), "<c16")))
    assert (span.dtype, span.shape) == ("F64", (2, 3, 2))


def test_a_bfloat16_of_ml_dtypes_is_one() -> None:
    array = np.arange(6).astype(ml_dtypes.bfloat16)
    content = saved(array)
    (span,) = tensors(content)
    assert (span.dtype, span.shape, bytes_of(content, span)) == ("BF16", (6,), array.tobytes())


def test_arrays_one_after_the_other_are_all_found() -> None:
    first, second = np.arange(5, dtype="<f4"), np.arange(6, dtype="<i2").reshape(2, 3)
    content = saved(first, second) + b"behind"
    assert [bytes_of(content, span) for span in tensors(content)] == [first.tobytes(), second.tobytes()]
    assert [span.name for span in tensors(content)] == ["arr_0", "arr_1"]


@pytest.mark.parametrize(
    "header",
    [
        "{'descr':'<f4','fortran_order':False,'shape':(2,)}",
        "{'shape': (2L,), 'fortran_order': False, 'descr': '<f4'}   \n",
        '{"descr": "<f4", "fortran_order": False, "shape": (2,), }\n',
        "{'descr': '<f4', 'fortran_order': False, 'shape': ( 2 , ), }",
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_other_writers_are_taken(header: str, version: tuple[int, int]) -> None:
    (span,) = tensors(npy(header, bytes(8), version))
    assert (span.dtype, span.shape, span.nbytes) == ("F32", (2,), 8)


@pytest.mark.parametrize("dtype", [">f4", "S3", "U2", "<M8[ns]", "<f16", [("a", "<f4"), ("b", "<i8")]])
def test_items_of_other_types_are_plain_bytes(dtype: str) -> None:
    content = saved(np.zeros(4, dtype))
    assert lay_out(b"x.npy", lambda offset, nbytes: content[offset : offset + nbytes], len(content)).format == "opaque"


@pytest.mark.parametrize(
    "content",
    [
        described(shape="(3,)"),
        described(shape=f"({2**62}, {2**62})"),
        described(shape="(" + "2" * 64),
        described(shape="(" + "2 " * 20000),
        described(descr="'|O'"),
        described(order="0"),
        described(shape="(__import__('os').abort(),)"),
    ],
)
def test_what_cannot_be_told_is_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        tensors(content)
