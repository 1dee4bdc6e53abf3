"""Owns how predictions are judged: sizes from sketches beside what the codec really makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.benchmarks.codec.data import BASE_SIGMA, Bytes, read_tensors
from tools.benchmarks.simulate.hub.data import bf16
from zipfs.bases import LEAST_NBYTES, choose_base, predict_against, predict_standalone, sketch
from zipfs.codec import FRAME_NBYTES, encode_frame, item_nbytes
from zipfs.store.objects.values import frame_count

ITEMS: Final = 1 << 19
_FOR_EVER: Final = 1e6
"""Bits an item, as if coding standalone were that bad."""
TIE: Final = 0.001
"""Of the raw size: so much more is hardly worse than the best."""


@dataclass(frozen=True, slots=True)
class Family:
    """Tensors of one dtype and length, each of which could be coded against each other one."""

    name: str
    dtype: str
    tensors: tuple[Bytes, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of all pairs of some families: errors and losses are parts of the raw size, all pairs counting alike."""

    name: str
    pairs: int
    error: float
    """Mean absolute error of the smaller of standalone and against."""
    bias: float
    """The same with its sign, weighted by size."""
    recall: float
    """How often the candidate that an ingest would choose is the best one."""
    recall_tie: float
    """The same where TIE more than the best one is as good."""
    lost: float
    """What is stored over what the best candidates would give, minus 1, weighted by size."""


def families_of_models(family: Path) -> Iterator[Family]:
    """The tensors of one name in all BF16 models."""
    models = [read_tensors(path, "BF16") for path in sorted(family.glob("*/model.safetensors"))]
    models = [model for model in models if model]
    for name, tensor in sorted(models[0].items()):
        if tensor.nbytes >= LEAST_NBYTES:
            yield Family("family", "BF16", tuple(model[name] for model in models if name in model))


def generated_families(items: int = ITEMS) -> Iterator[Family]:
    """Many seeds and learning rates, a series of checkpoints, merges, and strangers of the same shape."""
    for dtype, part in (("BF16", 1), ("F16", 2), ("F32", 4)):
        count = items // part
        rng = np.random.default_rng(part)
        scale = np.repeat(rng.uniform(0.5, 2.0, count // 512 + 1), 512)[:count]
        base = rng.normal(0, BASE_SIGMA, count) * scale
        rates = [base, *(base + rng.normal(0, sigma, count) for sigma in np.geomspace(1e-4, 2e-2, 9))]
        yield Family(f"learning rates, {dtype}", dtype, tuple(_cast(values, dtype) for values in rates))
        seeds = [base, *(base + rng.normal(0, 1e-3, count) * rng.uniform(0.8, 1.2) for _ in range(7))]
        yield Family(f"seeds, {dtype}", dtype, tuple(_cast(values, dtype) for values in seeds))
        steps = [base]
        for _ in range(7):
            steps.append(steps[-1] + rng.normal(0, 4e-4, count))
        yield Family(f"checkpoints, {dtype}", dtype, tuple(_cast(values, dtype) for values in steps))
        ends = [base + rng.normal(0, 3e-3, count) for _ in range(3)]
        merges = [base, *ends, (ends[0] + ends[1]) / 2, (ends[1] + ends[2]) / 2, 0.7 * ends[0] + 0.3 * ends[2]]
        yield Family(f"merges, {dtype}", dtype, tuple(_cast(values, dtype) for values in merges))
        strangers = [rng.normal(0, BASE_SIGMA, count) * scale for _ in range(5)]
        mixed = [base, base + rng.normal(0, 1e-3, count), *strangers]
        yield Family(f"strangers, {dtype}", dtype, tuple(_cast(values, dtype) for values in mixed))


def _cast(values: NDArray[np.float64], dtype: str) -> Bytes:
    if dtype == "BF16":
        return bf16(values.astype("<f4")).view(np.uint8)
    return values.astype({"F16": "<f2", "F32": "<f4"}[dtype]).view(np.uint8)


def measure(families: Sequence[Family], threads: int = 2) -> Iterator[Prediction]:
    """One row for each name, from all ordered pairs of unequal tensors."""
    by_name: dict[str, list[tuple[Family, NDArray[np.int64]]]] = {}
    with ThreadPoolExecutor(threads) as executor:
        for family, sizes in zip(families, executor.map(_coded, families), strict=True):
            by_name.setdefault(family.name, []).append((family, sizes))
    for name, entries in by_name.items():
        yield _compare(name, entries)


def _coded(family: Family) -> NDArray[np.int64]:
    """Real sizes in bytes, int64 of (targets, bases); coded standalone on the diagonal."""
    count = len(family.tensors)
    sizes = np.zeros((count, count), np.int64)
    for target in range(count):
        for base in range(count):
            sizes[target, base] = _size(
                family.tensors[target], None if base == target else family.tensors[base], family.dtype
            )
    return sizes


def _size(raw: Bytes, base: Bytes | None, dtype: str) -> int:
    total = 0
    for at in range(0, raw.nbytes, FRAME_NBYTES):
        piece = slice(at, at + FRAME_NBYTES)
        total += len(encode_frame(raw[piece].data, dtype, None if base is None else base[piece].data, 0))
    return total


def _compare(name: str, entries: Sequence[tuple[Family, NDArray[np.int64]]]) -> Prediction:
    errors: list[NDArray[np.float64]] = []
    weights: list[NDArray[np.float64]] = []
    found: list[tuple[float, float, float]] = []  # chosen, best, raw
    for family, sizes in entries:
        raw = family.tensors[0].nbytes
        nbytes_per_bit = raw / item_nbytes(family.dtype) / 8
        sketches = [_sketch(tensor, family.dtype) for tensor in family.tensors]
        for target, mine in enumerate(sketches):
            others = [n for n in range(len(sketches)) if not np.array_equal(family.tensors[n], family.tensors[target])]
            if not others:
                continue
            against = predict_against(mine, [sketches[other] for other in others], family.dtype) * nbytes_per_bit
            standalone = min(predict_standalone(mine, family.dtype) * nbytes_per_bit, raw)
            real = sizes[target, others].astype(np.float64)
            errors.append((np.minimum(against, standalone) - real) / raw)
            weights.append(np.full(len(others), float(raw)))
            found.append((float(real[_chosen(family, sketches, target, others)]), float(real.min()), float(raw)))
    error, weight = np.concatenate(errors), np.concatenate(weights)
    chosen, best, raws = np.array(found).T
    return Prediction(
        name,
        len(error),
        float(np.abs(error).mean()),
        float((error * weight).sum() / weight.sum()),
        float((chosen <= best).mean()),
        float((chosen <= best + TIE * raws).mean()),
        float(chosen.sum() / best.sum() - 1),
    )


def _chosen(family: Family, sketches: Sequence[bytes], target: int, others: Sequence[int]) -> int:
    """Which of `others` is chosen, as an ingest chooses."""
    raw = family.tensors[target]
    start = (frame_count(raw.nbytes, family.dtype) - 1) // 2 * FRAME_NBYTES
    piece = slice(start, start + FRAME_NBYTES)

    def probe(number: int) -> float:
        return len(encode_frame(raw[piece].data, family.dtype, family.tensors[number][piece].data, 0))

    candidates = [(other, sketches[other]) for other in others]
    # What is asked for is the best base, not whether there should be one.
    choice = choose_base(sketches[target], raw.nbytes, family.dtype, candidates, standalone=_FOR_EVER, probe=probe)
    assert choice is not None
    return list(others).index(choice.blob_id)


def _sketch(tensor: Bytes, dtype: str) -> bytes:
    return sketch(lambda offset, nbytes: tensor[offset : offset + nbytes].tobytes(), tensor.nbytes, dtype)


def models_of(family: Path) -> Mapping[str, Path]:
    """Folders of the BF16 models of a family, by name."""
    paths = sorted(family.glob("*/model.safetensors"))
    return {path.parent.name: path.parent for path in paths if read_tensors(path, "BF16")}
