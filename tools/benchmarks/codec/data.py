"""Owns what the codec is measured on: tensors of real models and their fine-tunes, and generated ones.

A family is a folder of model directories with a base-bf16 (or base) among them; the others are coded against it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.dtypes import DTYPES

Bytes = NDArray[np.uint8]

TOOLS: Final = Path(__file__).resolve().parents[2]
SHARED_FAMILY: Final = TOOLS.parents[1] / "shared" / "families" / "make_family.py"
GGML_TYPES: Final = 41
"""How many numbers of types are asked for their names."""
GENERATED_WEIGHTS: Final = 1 << 22
BASE_SIGMA: Final = 0.056
"""Standard deviation of generated weights: that of MiniLM."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Raw bytes of one tensor, and of its base if it is to be coded against one."""

    dtype: str
    raw: Bytes
    base: Bytes | None


@dataclass(frozen=True, slots=True)
class Case:
    """What is coded in one go; all its tensors that count have items of `dtype`."""

    name: str
    dtype: str
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(tensor.raw.nbytes for tensor in self.tensors)

    @property
    def has_base(self) -> bool:
        return self.tensors[0].base is not None


def make_family(folder: Path) -> Path:
    """Build the shared family if it lies beside this clone, or else the small one of tools/quickstart."""
    shared = SHARED_FAMILY.exists()
    family = folder / "minilm" if shared else folder
    if not any(folder.glob("**/model.safetensors")):
        maker = SHARED_FAMILY if shared else TOOLS / "demo" / "family.py"
        subprocess.run([sys.executable, maker, folder], check=True, stdout=subprocess.DEVNULL)
    return family


def family_cases(family: Path, limit_nbytes: int) -> Iterator[Case]:
    """The base and the F32 model alone, and every fine-tune against the base; each cut after about `limit_nbytes`."""
    folders = {path.parent.name: path for path in sorted(family.glob("*/model.safetensors"))}
    base_name = "base-bf16" if "base-bf16" in folders else "base"
    base = read_tensors(folders.pop(base_name), "BF16")
    yield _case(f"{base_name} alone", "BF16", {name: (raw, None) for name, raw in base.items()}, limit_nbytes)
    if "base-f32" in folders:
        f32 = read_tensors(folders.pop("base-f32"), "F32")
        yield _case("base-f32 alone", "F32", {name: (raw, None) for name, raw in f32.items()}, limit_nbytes)
        yield _case("F32 fine-tune-like", "F32", _tuned_f32(f32), limit_nbytes)
    for name, path in folders.items():
        pairs = {key: (raw, base[key]) for key, raw in read_tensors(path, "BF16").items() if key in base}
        yield _case(name, "BF16", pairs, limit_nbytes)


BLOCK_CASES: Final = ("Q8_0", "Q4_K", "Q6_K", "Q4_0", "Q5_K", "Q5_0", "Q2_K", "Q3_K", "IQ4_XS", "MXFP4")


def block_cases(family: Path, limit_nbytes: int) -> Iterator[Case]:
    """The matrices of the base as ggml quantises them in rows of 256; nothing where it is not installed."""
    ggml = _load_ggml()
    if ggml is None:
        return
    folders = {path.parent.name: path for path in family.glob("*/model.safetensors")}
    if "base-f32" in folders:
        floats = {name: raw.view("<f4") for name, raw in read_tensors(folders["base-f32"], "F32").items()}
    else:
        halves = read_tensors(folders.get("base-bf16", folders["base"]), "BF16")
        floats = {name: (raw.view("<u2").astype("<u4") << 16).view("<f4") for name, raw in halves.items()}
    matrices = {name: values for name, values in floats.items() if values.size >= 1 << 14 and values.size % 256 == 0}
    for dtype in BLOCK_CASES:
        pairs = {name: (_quantised(ggml, dtype, values), None) for name, values in matrices.items()}
        yield _case("blocks alone", dtype, pairs, limit_nbytes)


def _load_ggml() -> ctypes.CDLL | None:
    """The quantiser of ggml, as the package pywhispercpp carries it."""
    found = importlib.util.find_spec("pywhispercpp")
    if found is None or not found.submodule_search_locations:
        return None
    ggml = ctypes.CDLL(str(Path(found.submodule_search_locations[0]).parent / "libggml-base.so"))
    ggml.ggml_type_name.restype = ctypes.c_char_p
    rows = [ctypes.c_int64] * 3
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *rows, ctypes.c_void_p]
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    return ggml


def _quantised(ggml: ctypes.CDLL, dtype: str, values: NDArray[np.float32]) -> Bytes:
    """The blocks of `values`, without an importance matrix."""
    number = next(
        k for k in range(GGML_TYPES) if (ggml.ggml_type_name(k) or b"").decode("ascii", "ignore").upper() == dtype
    )
    kind, values = DTYPES[dtype], np.ascontiguousarray(values)
    blocks = np.empty(values.size // kind.block_weights * kind.block_nbytes, np.uint8)
    ggml.ggml_quantize_chunk(number, values.ctypes.data, blocks.ctypes.data, 0, values.size // 256, 256, None)
    return blocks


def generated_cases(limit_nbytes: int) -> Iterator[Case]:
    """Gaussian weights, and the same with Gaussian noise of a fixed sigma, as full fine-tunes of large models have."""
    rng = np.random.default_rng(0)
    count = min(GENERATED_WEIGHTS, limit_nbytes // 2)
    weights = rng.normal(0, BASE_SIGMA, count).astype(np.float32)
    for sigma in (3e-4, 1e-3):
        tuned = weights + rng.normal(0, sigma, count).astype(np.float32)
        yield Case(f"sigma {sigma:.0e}", "BF16", (Tensor("BF16", _bf16(tuned), _bf16(weights)),))
        if sigma == 3e-4:
            half = Tensor("F16", _bytes(tuned.astype("<f2")), _bytes(weights.astype("<f2")))
            yield Case(f"sigma {sigma:.0e}", "F16", (half,))
    yield Case("sigma alone", "F16", (Tensor("F16", _bytes(weights.astype("<f2")), None),))
    yield Case("sigma alone", "F64", (Tensor("F64", _bytes(weights[: count // 4].astype("<f8") / 3), None),))
    e4m3 = _e4m3(weights * np.float32(448 / (6 * BASE_SIGMA)))
    yield Case("sigma alone", "F8_E4M3", (Tensor("F8_E4M3", e4m3, None),))


def read_tensors(path: Path, dtype: str) -> dict[str, Bytes]:
    """The tensors of one dtype in a safetensors file, by name."""
    content = np.fromfile(path, np.uint8)
    (header_nbytes,) = struct.unpack("<Q", content[:8].tobytes())
    header = json.loads(content[8 : 8 + header_nbytes].tobytes())
    data = content[8 + header_nbytes :]
    return {
        name: data[slice(*info["data_offsets"])]
        for name, info in header.items()
        if name != "__metadata__" and info["dtype"] == dtype
    }


def _case(name: str, dtype: str, pairs: Mapping[str, tuple[Bytes, Bytes | None]], limit_nbytes: int) -> Case:
    """The tensors from the largest on, until the limit is passed."""
    tensors: list[Tensor] = []
    left = limit_nbytes
    for raw, base in sorted(pairs.values(), key=lambda pair: -pair[0].nbytes):
        if left <= 0:
            break
        cut = min(raw.nbytes, left & ~7)
        tensors.append(Tensor(dtype, raw[:cut], None if base is None else base[:cut]))
        left -= cut
    return Case(name, dtype, tuple(tensors))


def _tuned_f32(tensors: dict[str, Bytes]) -> dict[str, tuple[Bytes, Bytes | None]]:
    """Each tensor moved by noise of a 500th of its own deviation, against what it was."""
    rng = np.random.default_rng(1)
    tuned: dict[str, tuple[Bytes, Bytes | None]] = {}
    for name, raw in tensors.items():
        values = raw.view("<f4")
        noise = rng.standard_normal(values.size, np.float32) * np.float32(values.std() / 500)
        tuned[name] = (_bytes(values + noise), raw)
    return tuned


def _bytes(values: NDArray[np.generic]) -> Bytes:
    return np.ascontiguousarray(values).view(np.uint8)


def _bf16(values: NDArray[np.float32]) -> Bytes:
    bits = values.view("<u4")
    return _bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2"))


def _e4m3(values: NDArray[np.float32]) -> Bytes:
    """Nearest E4M3 values of finite float32 values."""
    codes = np.arange(127)
    positive = np.where(codes < 8, codes % 8 * 2.0**-9, (1 + codes % 8 / 8) * 2.0 ** (codes // 8 - 7.0))
    nearest = np.searchsorted((positive[1:] + positive[:-1]) / 2, np.abs(values))
    return (nearest | np.signbit(values).astype(np.int64) << 7).astype(np.uint8)
