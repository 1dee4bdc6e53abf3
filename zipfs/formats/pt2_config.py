"""Owns the JSON by which a `.pt2` archive of torch.export says what the tensors are that it keeps, an entry each.

Source: PyTorch 2.13, `torch/export/pt2_archive/constants.py` and `torch/_export/serde/schema.py`. Pure; any thread may
call it.
"""

from __future__ import annotations

import json
from typing import Final

from zipfs.formats.torch_tensors import ITEM_TYPES, MAX_AXES, MAX_NAME_LENGTH, StorageUse, Tensor

PAYLOAD_FOLDERS: Final = (
    ("data/weights/", "model_weights_config.json"),
    ("data/constants/", "model_constants_config.json"),
)
"""Where tensors are, and what the JSON beside them is called."""
MAX_CONFIG_NBYTES: Final = 1 << 23
MAX_TENSORS: Final = 1 << 16

_ITEM_TYPES: Final = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""The numbers that the schema has for types of items."""


def parse_config(content: bytes) -> list[tuple[str, Tensor]]:
    """Return entries and the tensors that they hold; what is not understood is left out."""
    if len(content) > MAX_CONFIG_NBYTES:
        return []
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        return []
    rows = config.get("config") if isinstance(config, dict) else None
    if not isinstance(rows, dict) or len(rows) > MAX_TENSORS:
        return []
    found: list[tuple[str, Tensor]] = []
    for name, row in rows.items():
        payload = row.get("path_name") if isinstance(row, dict) else None
        if isinstance(payload, str) and not row.get("use_pickle"):
            tensor = _tensor(str(name)[:MAX_NAME_LENGTH], payload, row.get("tensor_meta"))
            if tensor is not None:
                found.append((payload, tensor))
    return found


def _tensor(name: str, payload: str, meta: object) -> Tensor | None:
    if not isinstance(meta, dict):
        return None
    number = meta.get("dtype")
    items = ITEM_TYPES.get(_ITEM_TYPES.get(number, "")) if isinstance(number, int) else None
    shape, strides, offset = (
        _numbers(meta.get("sizes")),
        _numbers(meta.get("strides")),
        _number(meta.get("storage_offset")),
    )
    if items is None or shape is None or strides is None or offset is None or len(shape) != len(strides):
        return None
    storage = StorageUse(payload, items, 0)
    return Tensor(name.encode("utf-8", "backslashreplace").decode(), storage, items, offset, shape, strides)


def _numbers(values: object) -> tuple[int, ...] | None:
    if not isinstance(values, list) or len(values) > MAX_AXES:
        return None
    numbers = tuple(number for number in map(_number, values) if number is not None)
    return numbers if len(numbers) == len(values) else None


def _number(value: object) -> int | None:
    """Take `{"as_int": 3}`."""
    number = value.get("as_int") if isinstance(value, dict) else None
    return number if type(number) is int and 0 <= number < 1 << 63 else None
