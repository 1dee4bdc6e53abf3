"""Measures what variants of a real model take in a store, in bits a weight, after the other one and before it.

Every pair gets a store of its own.  Counted is what the packs of the second one add, all bytes of them; GB/s are of
decoding what has a base of it, with the base in memory, in runs of a few frames and one thread.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.benchmarks.codec.data import make_family
from tools.benchmarks.put_files import ingest
from zipfs.codec import FRAME_NBYTES, Cast, item_nbytes
from zipfs.errors import ZipfsError
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.decode_plan import Target
from zipfs.store.store import Store, open_store

TUNED: Final = "sft-lr2e-5-step300"
OTHER: Final = "sft-lr2e-5-step100"
_CACHE_NBYTES: Final = 1 << 30
_RUN_FRAMES: Final = 4
_ROUNDS: Final = 5


class Tensor(NamedTuple):
    """A tensor of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    raw: bytes


Model = Mapping[str, Tensor]


def read(path: Path) -> Model:
    raw = path.read_bytes()
    (header_nbytes,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + header_nbytes])
    header.pop("__metadata__", None)
    data = raw[8 + header_nbytes :]
    return {
        name: Tensor(it["dtype"], tuple(it["shape"]), data[slice(*it["data_offsets"])]) for name, it in header.items()
    }


def written(model: Model) -> bytes:
    header: dict[str, object] = {}
    at = 0
    for name, tensor in model.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, at + len(tensor.raw)]}
        at += len(tensor.raw)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.raw for tensor in model.values())


def matrices(model: Model) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.items() if len(tensor.shape) == 2 and tensor.dtype != "I64"}


def each(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    return {f"renamed.{name}": change(tensor) for name, tensor in matrices(model).items()}


def cast(tensor: Tensor, dtype: str, scale: float = 1.0) -> Tensor:
    out = bytearray(len(tensor.raw) // item_nbytes(tensor.dtype) * item_nbytes(dtype))
    Cast(tensor.dtype, dtype, scale).apply(tensor.raw, out)
    return Tensor(dtype, tensor.shape, bytes(out))


def rows(tensor: Tensor, start: int, stop: int) -> Tensor:
    row_nbytes = len(tensor.raw) // tensor.shape[0]
    return Tensor(tensor.dtype, (stop - start, *tensor.shape[1:]), tensor.raw[start * row_nbytes : stop * row_nbytes])


def joined(*tensors: Tensor) -> Tensor:
    count = sum(tensor.shape[0] for tensor in tensors)
    return Tensor(tensors[0].dtype, (count, *tensors[0].shape[1:]), b"".join(tensor.raw for tensor in tensors))


def values(tensor: Tensor) -> NDArray[np.float32]:
    return np.frombuffer(tensor.raw if tensor.dtype == "F32" else cast(tensor, "F32").raw, "<f4").reshape(tensor.shape)


def quantised(tensor: Tensor, *, by_row: bool) -> Tensor:
    """E4M3, with one scale for all or one for each row, which is kept elsewhere."""
    wide = values(tensor)
    most = np.abs(wide).max(axis=1, keepdims=True) if by_row else np.abs(wide).max()
    divided = (wide / np.maximum(most / np.float32(448), np.float32(1e-12))).astype("<f4")
    return cast(Tensor("F32", tensor.shape, divided.tobytes()), "F8_E4M3")


def new_rows(tensor: Tensor, count: int) -> Tensor:
    width = len(tensor.raw) // tensor.shape[0] // 2
    fresh = np.random.default_rng(1).normal(0, 0.05, (count, width)).astype("<f4")
    return cast(Tensor("F32", (count, *tensor.shape[1:]), fresh.tobytes()), "BF16")


def fused(model: Model) -> Model:
    """Query, key and value of every layer in one matrix."""
    layers = {name.split(".attention.self.")[0] for name in model if ".attention.self." in name}
    parts = ("query", "key", "value")
    return {
        f"{layer}.qkv": joined(*(model[f"{layer}.attention.self.{part}.weight"] for part in parts)) for layer in layers
    }


def apart(model: Model) -> Model:
    return {
        name: tensor
        for name, tensor in model.items()
        if name.endswith(tuple(f"self.{p}.weight" for p in ["query", "key", "value"]))
    }


def pairs(base: Model, master: Model, tuned: Model, other: Model) -> Iterator[tuple[str, Model, Model]]:
    """What it is, the one, the other."""
    words = "embeddings.word_embeddings.weight"
    only = {words: base[words]}
    yield "F32 master and its BF16", matrices(base), matrices(master)
    yield "the same under other names", matrices(base), each(base, lambda tensor: tensor)
    yield (
        "the same in another shape",
        matrices(base),
        each(base, lambda t: t._replace(shape=(t.shape[0] * t.shape[1],))),
    )
    yield "tuned, under other names", matrices(base), each(tuned, lambda tensor: tensor)
    yield "BF16 kept as F32", matrices(base), each(base, lambda tensor: cast(tensor, "F32"))
    yield "tuned, kept as F32", matrices(base), each(tuned, lambda tensor: cast(tensor, "F32"))
    yield "F16 of the master", matrices(base), each(master, lambda tensor: cast(tensor, "F16"))
    yield "first half of the rows", matrices(base), each(base, lambda t: rows(t, 0, t.shape[0] // 2))
    yield "first half of the rows, tuned", matrices(base), each(tuned, lambda t: rows(t, 0, t.shape[0] // 2))
    yield "100 words added at the end", only, {words: joined(base[words], new_rows(base[words], 100))}
    yield "100 words added, tuned", only, {words: joined(tuned[words], new_rows(base[words], 100))}
    middle = rows(base[words], 0, 9000), new_rows(base[words], 100), rows(base[words], 9000, base[words].shape[0])
    yield "100 words added inside", only, {words: joined(*middle)}
    yield "q, k, v fused", apart(base), fused(base)
    yield "q, k, v fused, tuned", apart(base), fused(tuned)
    copies = {n: joined(t, t, t, t) for n, t in matrices(base).items() if "intermediate" in n}
    yield "four experts of one layer", {n: t for n, t in matrices(base).items() if "intermediate" in n}, copies
    yield "E4M3, cast as it is", matrices(base), each(base, lambda tensor: cast(tensor, "F8_E4M3"))
    yield "E4M3, one scale a matrix", matrices(base), each(base, lambda tensor: quantised(tensor, by_row=False))
    yield "E4M3, a scale for each row", matrices(base), each(base, lambda tensor: quantised(tensor, by_row=True))
    yield "average of two checkpoints", matrices(base), {n: mean(tuned[n], other[n]) for n in matrices(base)}
    yield "transposed", matrices(base), each(base, transposed)


def mean(one: Tensor, other: Tensor) -> Tensor:
    return cast(Tensor("F32", one.shape, ((values(one) + values(other)) / 2).astype("<f4").tobytes()), "BF16")


def transposed(tensor: Tensor) -> Tensor:
    turned = np.ascontiguousarray(np.frombuffer(tensor.raw, "<u2").reshape(tensor.shape).T)
    return Tensor(tensor.dtype, turned.shape, turned.tobytes())


def decoded_per_second(store: Store) -> float | None:
    """Bytes of what has a base, decoded in a second by one thread with the bases in memory; None if nothing has."""
    frames = FrameCache(_CACHE_NBYTES)
    members = [store.open_blob(blob_id) for blob_id in store.catalog.blob_ids() if store.catalog.is_member(blob_id)]
    out = [memoryview(bytearray(FRAME_NBYTES)) for _ in range(_RUN_FRAMES)]
    best_s = float("inf")
    for _ in range(_ROUNDS):
        began_s = time.perf_counter()
        for blob in members:
            for first in range(0, len(blob.blob.frames), _RUN_FRAMES):
                numbers = range(first, min(first + _RUN_FRAMES, len(blob.blob.frames)))
                frames.decode_into(
                    [Target(blob, n, to[: blob.blob.frame_nbytes(n)]) for n, to in zip(numbers, out, strict=False)]
                )
        best_s = min(best_s, time.perf_counter() - began_s)
    return sum(blob.blob.nbytes for blob in members) / best_s if members else None


def stored(first: Model, second: Model) -> tuple[float, float | None]:
    """Bits that each weight of the second one takes beside the first one, and how fast it is decoded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_store(folder / "store", create=True) as store:
            packed = [0]
            for number, model in enumerate((first, second)):
                path = folder / str(number)
                path.write_bytes(written(model))
                ingest(store, path, path.name, rebase=False)
                packed.append(sum(pack.stat().st_size for pack in (folder / "store" / "packs").iterdir()))
            speed = decoded_per_second(store)
    weights = sum(len(tensor.raw) // item_nbytes(tensor.dtype) for tensor in second.values())
    return (packed[2] - packed[1]) * 8 / weights, speed


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench bases/partial_matches", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument(
        "family",
        type=Path,
        nargs="?",
        metavar="FAMILY",
        help="a folder with base-bf16 and others; without it one is made",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        family = arguments.family or make_family(Path(name))
        try:
            models = [read(family / part / "model.safetensors") for part in ("base-bf16", "base-f32", TUNED, OTHER)]
        except FileNotFoundError as error:
            raise SystemExit(f"bench: {error.filename} is missing: name a family that has it") from error
        print(
            "bits a weight, beside the other one   standalone    after   before   GB/s  (before: the other, after it)"
        )
        for what, one, other in pairs(*models):
            try:
                standalone, (after, speed), before = stored({}, other), stored(one, other), stored(other, one)
            except ZipfsError as error:
                raise SystemExit(f"bench: {error}") from error
            shown = "     -" if speed is None else f"{speed / 1e9:6.2f}"
            print(f"{what:40} {standalone[0]:8.3f} {after:8.3f} {before[0]:8.3f} {shown}", flush=True)


if __name__ == "__main__":
    main()
