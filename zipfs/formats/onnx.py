"""The ONNX container: a protobuf message, in which tensors lie as `raw_data`, `float_data` or `double_data`.

Finds the initializers of the graph and of graphs inside it, the tensors of attributes, functions and training. Plain
bytes are: tensors in other files, sparse ones, strings, those spelled as varints, and those of which shape and bytes
disagree. What is too small to gain by being a tensor is passed over. Of a part of the message that is damaged nothing
more is taken; the rest is. Source: onnx/onnx, `onnx/onnx.proto`.

Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Final

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.protobuf import BYTES, VARINT, Field, FieldReader, decode_varint
from zipfs.formats.source import Source
from zipfs.formats.tiling import tile

FORMAT: Final = "onnx"
MAX_FIELDS: Final = 1 << 19
"""In all that is looked into. Beyond that, what was found is taken and the rest is plain bytes."""
MAX_TENSORS: Final = 1 << 16
MAX_DEPTH: Final = 64
MAX_AXES: Final = 64
MAX_NAME_NBYTES: Final = 1 << 10
LEAST_NBYTES: Final = 128
"""A message with fewer bytes, name and shape included, is passed over: as a tensor it would cost what it is long."""

_DTYPES: Final = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32",
    13: "U64", 14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ",
    21: "U4", 22: "U4", 23: "F4", 24: "F8_E8M0", 25: "U2", 26: "U2",
}  # fmt: skip
"""TensorProto.DataType -> name; C128, U4 and U2 are no names of ours."""
_OTHER_BITS: Final = {"C128": 128, "U4": 4, "U2": 2}

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _TENSOR = range(7)
_INSIDE: Final[tuple[tuple[dict[int, int], ...], ...]] = (
    ({7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},),
    ({5: _TENSOR}, {1: _NODE}),
    ({5: _ATTRIBUTE},),
    ({5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH},),
    ({7: _NODE, 11: _ATTRIBUTE},),
    ({1: _GRAPH, 2: _GRAPH},),
)
"""Kind of a message -> number of a field -> kind of the message in it, of all that can hold tensors.

A graph is walked twice: its initializers, which lie behind its nodes, are found before any node is looked into.
"""
_NODE_OUTPUT: Final = 2
_MODEL_FIELDS: Final = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), BYTES)
_IR_VERSION_TAG: Final = 1 << 3 | VARINT
_MAX_IR_VERSION: Final = 0x7F


def looks_like_onnx(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be ONNX: a version and another field of a model."""
    if nbytes < LEAST_NBYTES or len(head) < 3:
        return False
    tag, version, next_tag = head[:3]
    if tag != _IR_VERSION_TAG or not 1 <= version <= _MAX_IR_VERSION:
        return False
    return next_tag >= 0x80 or _MODEL_FIELDS.get(next_tag >> 3) == next_tag & 7


def parse_onnx(read: Read, nbytes: int) -> Layout:
    """Lay out an ONNX file of `nbytes`: its tensors, and the text around them.

    Raises NotThisFormat, with the reason, if the file is anything else, and whatever `read` raises. Memory: some
    hundred bytes for each tensor.
    """
    source = Source(read, nbytes)
    if not looks_like_onnx(source.take(0, min(nbytes, LEAST_NBYTES)), nbytes):
        raise NotThisFormat("no model of ONNX begins here")
    finder = _Finder(source)
    inside = _INSIDE[_MODEL][0]
    parts: list[tuple[int, Field]] = []
    for found in finder.reader.fields(0, nbytes):
        if _MODEL_FIELDS.get(found.number, found.wire_type) != found.wire_type:
            raise NotThisFormat(f"field {found.number} of a model is of another type")
        if found.number in inside:
            parts.append((inside[found.number], found))
    if not any(kind in (_GRAPH, _FUNCTION) for kind, _ in parts):
        raise NotThisFormat("a model with neither graph nor function")
    for kind, found in parts:
        finder.look_into(kind, found.offset, found.offset + found.nbytes, "", 1)
    return tile(FORMAT, finder.tensors, nbytes)


@dataclass(slots=True)
class _Tensor:
    """What is known of one message so far; `fields` are those that hold its items, by number."""

    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    name: str = ""
    is_elsewhere: bool = False
    fields: list[Field] = field(default_factory=list)


_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DOUBLE_DATA, _LOCATION = 1, 2, 4, 8, 9, 10, 14
_DTYPES_OF_DATA: Final = {_FLOAT_DATA: ("F32", "C64"), _DOUBLE_DATA: ("F64", "C128")}
"""Field -> types whose items lie in it as they would in `raw_data`."""


class _Finder:
    """Collects the tensors of one file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.reader = FieldReader(source, MAX_FIELDS)
        self.tensors: list[Span] = []

    def look_into(self, kind: int, begin: int, end: int, label: str, depth: int) -> None:
        """Take the tensors of a message; of one that is damaged, those before the damage.

        `label` names a tensor that has no name of its own.
        """
        for inside in _INSIDE[kind]:
            try:
                for inner, found, inner_label in self._inside(kind, inside, begin, end, label):
                    if len(self.tensors) >= MAX_TENSORS:
                        return
                    if inner == _TENSOR:
                        self._take_tensor(found.offset, found.offset + found.nbytes, inner_label)
                    elif depth < MAX_DEPTH:
                        self.look_into(inner, found.offset, found.offset + found.nbytes, inner_label, depth + 1)
            except NotThisFormat:
                continue

    def _inside(
        self, kind: int, inside: dict[int, int], begin: int, end: int, label: str
    ) -> Iterator[tuple[int, Field, str]]:
        has_output = kind != _NODE
        for found in self.reader.fields(begin, end):
            if found.wire_type != BYTES:
                continue
            if not has_output and found.number == _NODE_OUTPUT:
                label, has_output = self._text(found), True
            inner = inside.get(found.number)
            if inner is not None and found.nbytes >= LEAST_NBYTES:
                yield inner, found, label

    def _take_tensor(self, begin: int, end: int, label: str) -> None:
        """Take a tensor; of one that is damaged, nothing."""
        try:
            tensor = self._parse_tensor(begin, end, label)
        except NotThisFormat:
            return
        if len(tensor.fields) == 1 and not tensor.is_elsewhere:
            span = _span(tensor, self.source)
            if span is not None:
                self.tensors.append(span)

    def _parse_tensor(self, begin: int, end: int, label: str) -> _Tensor:
        tensor = _Tensor(name=label)
        for found in self.reader.fields(begin, end):
            number, is_bytes = found.number, found.wire_type == BYTES
            if number == _DIMS:
                tensor.dims += self._packed(found) if is_bytes else [found.value]
                if len(tensor.dims) > MAX_AXES:
                    raise NotThisFormat(f"more than {MAX_AXES} axes")
            elif number == _DATA_TYPE:
                tensor.data_type = found.value
            elif number == _NAME and is_bytes:
                tensor.name = self._text(found) or label
            elif number == _LOCATION:
                tensor.is_elsewhere = found.value != 0
            elif number in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and is_bytes:
                tensor.fields.append(found)
        return tensor

    def _packed(self, found: Field) -> list[int]:
        if found.nbytes > 10 * MAX_AXES:
            raise NotThisFormat(f"more than {MAX_AXES} axes")
        content = self.source.take(found.offset, found.nbytes)
        numbers: list[int] = []
        at = 0
        while at < len(content):
            number, at = decode_varint(content, at)
            numbers.append(number)
        return numbers

    def _text(self, found: Field) -> str:
        return self.source.take(found.offset, min(found.nbytes, MAX_NAME_NBYTES)).decode("utf-8", "replace")


def _span(tensor: _Tensor, source: Source) -> Span | None:
    """Return where the items lie; None if they are not laid out as their type says."""
    items = tensor.fields[0]
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None or (items.number != _RAW_DATA and dtype not in _DTYPES_OF_DATA[items.number]):
        return None
    nbits = prod(tensor.dims) * _item_bits(dtype)
    if (nbits + 7) // 8 != items.nbytes:
        return None
    shape = tuple(tensor.dims)
    if dtype == "C128":
        dtype, shape = "F64", (*shape, 2)
    elif dtype in _OTHER_BITS or nbits % 8:
        dtype, shape = "U8", (items.nbytes,)
    return Span(source.start + items.offset, items.nbytes, dtype, shape, tensor.name)


def _item_bits(dtype: str) -> int:
    known = DTYPES.get(dtype)
    return _OTHER_BITS[dtype] if known is None else 8 * known.block_nbytes // known.block_weights
