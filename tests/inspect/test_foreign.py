"""Files that look like models by their names."""

from __future__ import annotations

import pytest

from zipfs.inspect.foreign import model_ending


@pytest.mark.parametrize(
    ("name", "nbytes", "expected"),
    [
        (b"m/model.gguf", 1 << 20, ".gguf"),
        (b"m/MODEL.GGUF", 1 << 20, ".gguf"),
        (b"pytorch_model.bin", 64 << 10, ".bin"),
        (b"training_args.bin", 6 << 10, ""),
        (b"model.safetensors", 1 << 30, ".safetensors"),
        (b"model.safetensors", 1, ".safetensors"),
        (b"model.safetensors", 0, ""),
        (b"gguf", 1 << 20, ""),
        (b"m.gguf/README", 1 << 20, ""),
        (b"\xff.onnx", 1 << 20, ".onnx"),
    ],
)
def test_formats_by_ending_and_size(name: bytes, nbytes: int, expected: str) -> None:
    assert model_ending(name, nbytes) == expected
