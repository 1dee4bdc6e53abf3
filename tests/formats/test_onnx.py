"""The spans of an ONNX file are the tensors that ONNX itself reads from it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.formats.onnx_files import BFLOAT16, FLOAT, INT4, field, model, nested, tensor
from zipfs.errors import NotThisFormat
from zipfs.formats import Span
from zipfs.formats import onnx as onnx_format
from zipfs.formats.onnx import parse_onnx

RNG = np.random.default_rng(5)


def tensors(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    layout = parse_onnx(lambda offset, nbytes: content[offset : offset + nbytes], len(content))
    assert sum(span.nbytes for span in layout.spans) == len(content)
    return {name_of(s): (s.dtype, s.shape, content[s.offset : s.offset + s.nbytes]) for s in layout.spans if s.dtype}


def name_of(span: Span) -> str:
    assert span.name is not None
    return span.name


def saved(initializers: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> bytes:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes or [helper.make_node("Identity", ["in"], ["out"])], "g", [], [out], initializers)
    content: bytes = helper.make_model(graph, producer_name="zipfs" * 30).SerializeToString()
    return content


TYPES = {
    TensorProto.FLOAT: "F32", TensorProto.FLOAT16: "F16", TensorProto.DOUBLE: "F64", TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "I8", TensorProto.UINT8: "U8", TensorProto.INT16: "I16", TensorProto.UINT16: "U16",
    TensorProto.INT32: "I32", TensorProto.UINT32: "U32", TensorProto.INT64: "I64", TensorProto.UINT64: "U64",
    TensorProto.BOOL: "BOOL", TensorProto.COMPLEX64: "C64", TensorProto.FLOAT8E4M3FN: "F8_E4M3",
    TensorProto.FLOAT8E4M3FNUZ: "F8_E4M3FNUZ", TensorProto.FLOAT8E5M2: "F8_E5M2",
    TensorProto.FLOAT8E5M2FNUZ: "F8_E5M2FNUZ", TensorProto.FLOAT8E8M0: "F8_E8M0", TensorProto.FLOAT4E2M1: "F4",
}  # fmt: skip


@pytest.mark.parametrize("data_type", TYPES)
def test_an_initializer_is_a_tensor(data_type: TensorProto.DataType) -> None:
    values = RNG.integers(0, 2, (10, 32)).astype(helper.tensor_dtype_to_np_dtype(data_type))
    raw = helper.make_tensor("w", data_type, [10, 32], numpy_helper.from_array(values).raw_data, raw=True)
    assert numpy_helper.to_array(raw).tobytes() == values.tobytes()
    assert tensors(saved([raw])) == {"w": (TYPES[data_type], (10, 32), raw.raw_data)}


def test_a_complex_item_of_16_bytes_is_two_floats() -> None:
    values = RNG.normal(size=(4, 8)).astype("<c16")
    assert tensors(saved([numpy_helper.from_array(values, "w")])) == {"w": ("F64", (4, 8, 2), values.tobytes())}


def test_halves_of_bytes_are_bytes() -> None:
    raw = bytes(range(150))
    assert tensors(model(field(5, tensor("w", [299], INT4, raw)))) == {"w": ("U8", (150,), raw)}


def test_floats_that_are_packed_lie_as_they_would_raw() -> None:
    single, double = RNG.normal(size=100).astype("<f4"), RNG.normal(size=100)
    found = tensors(
        saved(
            [
                helper.make_tensor("single", TensorProto.FLOAT, [100], single),
                helper.make_tensor("double", TensorProto.DOUBLE, [10, 10], double),
            ]
        )
    )
    assert found == {"single": ("F32", (100,), single.tobytes()), "double": ("F64", (10, 10), double.tobytes())}


def test_what_is_spelled_in_varints_or_is_small_or_sparse_is_plain() -> None:
    values = numpy_helper.from_array(RNG.normal(size=99).astype("<f4"), "values")
    indices = helper.make_tensor("indices", TensorProto.INT64, [99], range(99))
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    sparse = helper.make_sparse_tensor(values, indices, [500])
    small = numpy_helper.from_array(RNG.normal(size=5).astype("<f4"), "small")
    node = helper.make_node("Identity", ["in"], ["out"])
    graph = helper.make_graph([node], "g", [], [out], [indices, small], sparse_initializer=[sparse])
    assert tensors(helper.make_model(graph).SerializeToString()) == {}


def test_tensors_of_attributes_subgraphs_and_functions_are_found() -> None:
    arrays = [RNG.normal(size=(3, 20)).astype("<f4") for _ in range(3)]
    protos = [numpy_helper.from_array(array) for array in arrays]
    constant = helper.make_node("Constant", [], ["attribute"], value=protos[0])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Constant", [], ["inner"], value=protos[1])], "then", [], [out])
    branch = helper.make_node("If", ["condition"], ["out"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([constant, branch], "g", [], [out])
    body = [helper.make_node("Constant", [], ["of_function"], value=protos[2])]
    function = helper.make_function("zipfs", "f", [], ["of_function"], body, [helper.make_opsetid("", 21)])
    found = tensors(helper.make_model(graph, functions=[function]).SerializeToString())
    names = ["attribute", "inner", "of_function"]
    assert {name: found[name] for name in names} == {
        name: ("F32", (3, 20), array.tobytes()) for name, array in zip(names, arrays, strict=True)
    }
    assert len(found) == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), max_size=6))
def test_any_initializers_are_found(shapes: list[tuple[str, int]]) -> None:
    arrays = [(f"{name}{at}", RNG.normal(size=n).astype("<f4")) for at, (name, n) in enumerate(shapes)]
    content = saved([numpy_helper.from_array(array, name) for name, array in arrays])
    assert onnx.load_from_string(content).graph.name == "g"
    found = tensors(content)
    for name, array in arrays:
        if array.nbytes >= onnx_format.LEAST_NBYTES:
            assert found.pop(name) == ("F32", array.shape, array.tobytes())
    assert all(len(content) < onnx_format.LEAST_NBYTES for _, _, content in found.values())


def test_a_damaged_tensor_costs_none_of_the_others() -> None:
    raw = bytes(range(160))
    damaged = field(5, b"\xff" * 200)
    found = tensors(
        model(field(5, tensor("a", [40], FLOAT, raw)) + damaged + field(5, tensor("b", [80], BFLOAT16, raw)))
    )
    assert found == {"a": ("F32", (40,), raw), "b": ("BF16", (80,), raw)}


@pytest.mark.parametrize(
    "wrong",
    [
        tensor("w", [41], FLOAT, bytes(160)),
        tensor("w", [2**63, 2**63], FLOAT, bytes(160)),
        tensor("w", [1] * 65 + [40], FLOAT, bytes(160)),
        tensor("w", [40], 99, bytes(160)),
        tensor("w", [40], FLOAT, bytes(160), field(9, bytes(160))),
        tensor("w", [40], FLOAT, bytes(160), field(14, 1)),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_plain(wrong: bytes) -> None:
    assert tensors(model(field(5, wrong))) == {}


def test_graphs_in_graphs_are_looked_into_only_so_deep() -> None:
    assert len(tensors(model(nested(15)))) == 1
    assert tensors(model(nested(300))) == {}


def test_a_file_with_more_fields_than_are_looked_at_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_format, "MAX_FIELDS", 100)
    raw = bytes(160)
    many = field(1, field(4, b"a") * 1000)
    constant = field(1, field(5, field(5, tensor("c", [40], FLOAT, raw))))
    content = model(many + constant + field(5, tensor("b", [40], FLOAT, raw)))
    assert tensors(content) == {"b": ("F32", (40,), raw)}


@pytest.mark.parametrize(
    "content",
    [
        field(1, 10) + field(2, bytes(200)),
        model(field(5, tensor("w", [40], FLOAT, bytes(160))))[:-1],
        model(field(5, tensor("w", [40], FLOAT, bytes(160)))) + b"\0" * 9,
        field(1, 10) + field(7, 3) + field(2, bytes(200)),
        field(1, 10) + field(7, bytes(200), 2**64 - 1),
    ],
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        tensors(content)
