"""Files that look like models by the endings of their names: only to tell of those in which no tensor was found.

How a file is stored depends on its content alone (`formats/registry.py`). Pure.
"""

from __future__ import annotations

import os
from typing import Final

# fmt: off
_ENDINGS: Final = frozenset((
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pt2", ".ptl", ".mar", ".nemo", ".distcp", ".pkl", ".pickle",
    ".joblib", ".ot", ".gguf", ".ggml", ".onnx", ".onnx_data", ".tflite", ".pb", ".h5", ".hdf5", ".keras", ".weights",
    ".msgpack", ".npz", ".npy", ".tensors", ".engine", ".plan", ".mlmodel", ".pdparams", ".caffemodel",
))
# fmt: on
_LEAST_NBYTES: Final = 64 << 10
"""Smaller files of most endings are settings and states of random generators, no weights."""


def model_ending(name: bytes, nbytes: int) -> str:
    """Return `.gguf` for a file that looks like a model of that format; "" for one that does not look like any."""
    ending = os.path.splitext(os.fsdecode(os.path.basename(name)))[1].lower()
    least_nbytes = 1 if ending == ".safetensors" else _LEAST_NBYTES
    return ending if ending in _ENDINGS and nbytes >= least_nbytes else ""
