"""Files of ONNX, valid and hostile, as bytes; says nothing of what should come of them.

Owns the writing of protobuf by hand: what the library of ONNX would never write can be written here.
"""

from __future__ import annotations

from collections.abc import Iterator

FLOAT, BFLOAT16, INT4 = 1, 16, 22


def varint(number: int) -> bytes:
    """A number as protobuf spells it."""
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def field(number: int, value: int | bytes, length: int | None = None) -> bytes:
    """A field; `length` is what it claims of its bytes, the truth by default."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value) if length is None else length) + value


def tensor(name: str, dims: list[int], data_type: int, raw: bytes, more: bytes = b"") -> bytes:
    """A TensorProto."""
    lengths = b"".join(field(1, length) for length in dims)
    return lengths + field(2, data_type) + field(8, name.encode()) + field(9, raw) + more


def model(graph: bytes, more: bytes = b"") -> bytes:
    """A ModelProto."""
    return field(1, 10) + field(2, b"zipfs") + field(7, graph) + field(8, field(2, 21)) + more


def nested(depth: int) -> bytes:
    """A graph in a graph and so on, with a tensor in the innermost."""
    graph = field(5, tensor("w", [40], FLOAT, bytes(160)))
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return graph


def onnx_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of ONNX."""
    raw = bytes(range(160))
    weight = field(5, tensor("w", [5, 8], FLOAT, raw))
    yield "onnx-one", model(weight)
    yield "onnx-two-of-one-name", model(weight + weight)
    yield "onnx-only-function", field(1, 10) + field(25, field(7, field(5, field(5, tensor("", [40], FLOAT, raw)))))
    yield "onnx-no-graph", field(1, 10) + field(2, bytes(200))
    yield "onnx-cut", model(weight)[:-1]
    yield "onnx-cut-in-tensor", model(weight)[:100]
    yield "onnx-behind", model(weight) + b"\0" * 20
    yield "onnx-graph-is-number", field(1, 10) + field(7, 3) + bytes(200)
    for number, length in enumerate((0, 1, 2**31, 2**32, 2**63, 2**64 - 1)):
        yield f"onnx-length-{number}", field(1, 10) + field(7, weight, length)
        yield f"onnx-tensor-length-{number}", model(field(5, tensor("w", [5, 8], FLOAT, raw), length) + bytes(64))
        yield f"onnx-raw-length-{number}", model(field(5, field(1, 40) + field(2, 1) + field(9, raw, length)))
        yield f"onnx-dim-{number}", model(field(5, tensor("w", [length], FLOAT, raw)))
        yield f"onnx-type-{number}", model(field(5, tensor("w", [5, 8], length, raw)))
    for number, dims in enumerate(([], [5, 8, 0], [2**63, 2**63], [1] * 64 + [40], [1] * 65 + [40], [40, 2**64 - 1])):
        yield f"onnx-dims-{number}", model(field(5, tensor("w", dims, FLOAT, raw)))
    yield "onnx-packed-dims", model(field(5, field(1, varint(5) + varint(8)) + field(2, 1) + field(9, raw)))
    yield "onnx-packed-dims-cut", model(field(5, field(1, b"\x85" * 20) + field(2, 1) + field(9, raw)))
    yield "onnx-packed-dims-many", model(field(5, field(1, b"\1" * 3000) + field(2, 1) + field(9, raw)))
    yield "onnx-raw-twice", model(field(5, tensor("w", [5, 8], FLOAT, raw, field(9, raw))))
    yield "onnx-external", model(field(5, tensor("w", [5, 8], FLOAT, raw, field(14, 1))))
    yield "onnx-wire-3", model(b"\x0b" * 200)
    yield "onnx-number-0", model(b"\x02\x01a" * 100)
    yield "onnx-endless-number", model(b"\xff" * 200)
    for depth in (1, 15, 60, 300):
        yield f"onnx-nested-{depth}", model(nested(depth))
    yield "onnx-nested-in-itself", model(field(1, field(5, field(6, b"")) * 50) * 50)
    yield (
        "onnx-name",
        model(field(5, tensor("\0\ud800".encode("utf-8", "surrogatepass").decode("latin1"), [40], 1, raw))),
    )
    yield "onnx-long-name", model(field(5, tensor("w" * 9000, [40], FLOAT, raw)))
