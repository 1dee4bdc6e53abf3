"""The formats of models that are kept as bytes, by the endings of their files' names: only to name such files.

How a file is stored depends on its content alone (`formats/registry.py`). Pure.
"""

from __future__ import annotations

import os
from typing import Final

TAKEN_APART: Final = "safetensors"
"""The formats whose tensors are found, as they are told to people."""

# fmt: off
_ENDINGS: Final = frozenset((
    ".bin", ".pt", ".pth", ".ckpt", ".pt2", ".ptl", ".mar", ".nemo", ".distcp", ".pkl", ".pickle", ".joblib", ".ot",
    ".gguf", ".ggml", ".onnx", ".onnx_data", ".tflite", ".pb", ".h5", ".hdf5", ".keras", ".weights", ".msgpack",
    ".npz", ".npy", ".tensors", ".engine", ".plan", ".mlmodel", ".pdparams", ".caffemodel",
))
# fmt: on
_LEAST_NBYTES: Final = 64 << 10
"""Smaller files of these endings are settings and states of random generators, no weights."""


def foreign_format(name: bytes, nbytes: int) -> str:
    """Return `.gguf` for a file that looks like a model of that format, which is not taken apart; "" for any other."""
    ending = os.path.splitext(os.fsdecode(os.path.basename(name)))[1].lower()
    return ending if ending in _ENDINGS and nbytes >= _LEAST_NBYTES else ""
