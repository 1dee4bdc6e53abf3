"""Files that look like models of formats that are not taken apart."""

from __future__ import annotations

import pytest

from zipfs.inspect.foreign import foreign_format


@pytest.mark.parametrize(
    ("name", "nbytes", "expected"),
    [
        (b"m/model.gguf", 1 << 20, ".gguf"),
        (b"m/MODEL.GGUF", 1 << 20, ".gguf"),
        (b"pytorch_model.bin", 64 << 10, ".bin"),
        (b"training_args.bin", 6 << 10, ""),
        (b"model.safetensors", 1 << 30, ""),
        (b"gguf", 1 << 20, ""),
        (b"m.gguf/README", 1 << 20, ""),
        (b"\xff.onnx", 1 << 20, ".onnx"),
    ],
)
def test_formats_by_ending_and_size(name: bytes, nbytes: int, expected: str) -> None:
    assert foreign_format(name, nbytes) == expected
