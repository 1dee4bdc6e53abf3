"""Makes the models that are read: BF16 weights with the names and shapes of Llama, and fine-tunes of them.

Everything is seeded, so that the same request gives the same bytes. A model is written into a directory of another
name, and is complete when that has its final one.

How a fine-tune differs from its base was measured on true ones, of MiniLM: AdamW moves every weight of a matrix by
Gaussian noise (kurtosis 2.5 to 2.9) of 0.0006 to 0.0030 times the deviation of the weights, and only those rows of the
embeddings whose tokens it meets, taken here as an eighth of them; some runs freeze the embeddings and the first layers.
Noise of 0.0030 that is added to the float32 values before they are rounded leaves 41.5 % of the BF16 items of a matrix
equal, as many as in the true fine-tune.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MODEL: Final = "model.safetensors"
EMBEDDINGS: Final = "model.embed_tokens.weight"
MET_TOKENS: Final = 0.125
"""Part of the rows of the embeddings that a fine-tune moves."""
PIECE_ITEMS: Final = 1 << 22

Advance = Callable[[int], None]
"""Told of the bytes that were written since the last call; from any thread."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that a Llama has, but for the number of its layers. `tied`: the head is the embeddings."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool


SHAPES: Final = (
    Shape(2048, 5632, 32, 4, 32000, tied=False),  # TinyLlama-1.1B
    Shape(960, 2560, 15, 5, 49152, tied=True),  # SmolLM2-360M
    Shape(576, 1536, 9, 3, 49152, tied=True),  # SmolLM2-135M
    Shape(256, 688, 4, 2, 4096, tied=True),
    Shape(64, 172, 4, 2, 256, tied=True),
)


@dataclass(frozen=True, slots=True)
class Change:
    """What a fine-tune does: noise of `sigma` times the deviation of a tensor, to all but the first layers."""

    sigma: float
    frozen_layers: int = 0


CHANGES: Final = (Change(0.0030), Change(0.0020), Change(0.0006), Change(0.0029, 2))
"""Of the fine-tunes in turn, as measured: 300, 100 steps at a rate of 2e-5; 200 at 5e-6; with frozen layers."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model to be made: `family` is the seed of its base, `member` that of the change."""

    name: str
    nbytes: int
    family: int
    member: int = 0
    change: Change | None = None


def models(base_nbytes: int, tuned_nbytes: int, count: int) -> list[Model]:
    """The large base and its fine-tune; a base with `count` fine-tunes of about `tuned_nbytes`; one to warm up with."""
    large = [Model("base", base_nbytes, 0), Model("tuned", base_nbytes, 0, 1, CHANGES[0])]
    small = [
        Model(f"sibling-{number}", tuned_nbytes, 1, number, CHANGES[number % len(CHANGES)])
        for number in range(1, count + 1)
    ]
    return [*large, Model("sibling-base", tuned_nbytes, 1), *small, Model("tiny", 200_000, 2)]


def shape_and_layers(nbytes: int) -> tuple[Shape, int]:
    """The largest shape whose embeddings are at most a third of `nbytes`, and how many layers come closest to it."""
    for shape in SHAPES:
        fixed = 2 * sum(_items(dims) for dims in tensors(shape, 0).values())
        layer = 2 * sum(_items(dims) for dims in tensors(shape, 1).values()) - fixed
        if fixed * 3 <= nbytes or shape is SHAPES[-1]:
            return shape, max(1, round((nbytes - fixed) / layer))
    raise AssertionError


def tensors(shape: Shape, layers: int) -> dict[str, tuple[int, ...]]:
    """Name -> dimensions, in the order in which the safetensors package writes them."""
    hidden, inner = shape.hidden, shape.intermediate
    kv = hidden // shape.heads * shape.kv_heads
    found: dict[str, tuple[int, ...]] = {EMBEDDINGS: (shape.vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not shape.tied:
        found["lm_head.weight"] = (shape.vocabulary, hidden)
    for number in range(layers):
        layer = {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        found |= {f"model.layers.{number}.{name}.weight": dims for name, dims in layer.items()}
    return dict(sorted(found.items()))


def make(model: Model, folder: Path, advance: Advance = lambda nbytes: None) -> Path:
    """Write a model below `folder` unless it is there already; its directory. Memory: some 100 MB a core."""
    target = folder / model.name
    if target.exists():
        advance(size_of(model))
        return target
    partial = folder / f".{model.name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shape, layers = shape_and_layers(model.nbytes)
    (partial / "config.json").write_text(json.dumps(_config(shape, layers), indent=2) + "\n")
    dims = tensors(shape, layers)
    with (partial / MODEL).open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as threads:
        start = file.write(_header(dims))
        jobs = []
        for name, shape_of_tensor in dims.items():
            jobs.append(threads.submit(_write_tensor, file.fileno(), start, model, name, shape_of_tensor, advance))
            start += 2 * _items(shape_of_tensor)
        for job in jobs:
            job.result()
    partial.rename(target)
    return target


def size_of(model: Model) -> int:
    """Bytes of its tensors."""
    return 2 * sum(_items(dims) for dims in tensors(*shape_and_layers(model.nbytes)).values())


def _items(dims: tuple[int, ...]) -> int:
    return int(np.prod(dims))


def _header(dims: Mapping[str, tuple[int, ...]]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in dims.items():
        nbytes = 2 * _items(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _config(shape: Shape, layers: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": shape.kv_heads,
        "tie_word_embeddings": shape.tied,
        "vocab_size": shape.vocabulary,
        "torch_dtype": "bfloat16",
    }


def _write_tensor(
    descriptor: int, start: int, model: Model, name: str, dims: tuple[int, ...], advance: Advance
) -> None:
    for first, values in _pieces(model, name, dims):
        content = to_bf16(values).view(np.uint8).data.cast("B")
        written = os.pwrite(descriptor, content, start + 2 * first)
        assert written == len(content), "the disk is full"
        advance(written)


def _pieces(model: Model, name: str, dims: tuple[int, ...]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First item and float32 values of every run of rows of a tensor."""
    seed = zlib.crc32(name.encode())
    weights = np.random.default_rng([model.family, seed])
    noise = np.random.default_rng([model.family, seed, model.member])
    row_items = dims[-1]
    rows = dims[0] if len(dims) == 2 else 1
    sigma = 0.02 if len(dims) == 2 else 0.1
    at_once = max(1, PIECE_ITEMS // row_items)
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        scale = np.exp(weights.standard_normal((count, 1), np.float32) * np.float32(0.2)) * np.float32(sigma)
        values = weights.standard_normal((count, row_items), np.float32) * scale
        if len(dims) == 1:
            values += 1
        change = model.change
        if change is not None and not _is_frozen(name, change):
            delta = noise.standard_normal((count, row_items), np.float32) * np.float32(change.sigma * sigma)
            if name == EMBEDDINGS:
                delta *= noise.random((count, 1), np.float32) < MET_TOKENS
            values += delta
        yield first * row_items, values


def _is_frozen(name: str, change: Change) -> bool:
    if change.frozen_layers == 0:
        return False
    parts = name.split(".")
    return name == EMBEDDINGS or (parts[1] == "layers" and int(parts[2]) < change.frozen_layers)


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """BF16 bit patterns of finite float32 values, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
