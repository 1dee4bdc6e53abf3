"""Owns the simulated hub: families of models as they lie on a hub, of which only the sketches are made.

Weights and their changes are those of real models: values of a base and what its fine-tunes changed them by, drawn at
random from those of like magnitude.  A family has a base, a few models that were trained on so far that little is left
in common with it, and many fine-tunes of any of these: most of them light ones, some series of checkpoints, some
averages of two.  How many models a family has follows a Pareto distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.benchmarks.codec.data import read_tensors
from zipfs.bases import SKETCH_MAX_NBYTES, sketch

Floats = NDArray[np.float32]

DTYPE: Final = "BF16"
SIZES: Final = tuple(1 << exponent for exponent in range(14, 28))
"""Lengths of tensors in bytes: 16 KiB to 128 MiB."""
SLOTS: Final = (8, 40)
"""Tensors of a model, at least and at most."""
MODELS: Final = 2000
"""Models of a family, at most."""
_PARETO: Final = 1.1
_MATERIAL: Final = 1 << 20
_ALIKE: Final = 64
"""Values so near in the order of magnitudes exchange their changes."""
_ITEMS: Final = SKETCH_MAX_NBYTES // 2
_SIGNS: Final = np.array([-1, 1], np.float32)


@dataclass(frozen=True, slots=True)
class Material:
    """Weights in the order of their magnitudes, (values,), and their changes by fine-tunes, (fine-tunes, values)."""

    weights: Floats
    changes: Floats


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of all models of a family, as sketches, in the order in which the models were made."""

    family: int
    nbytes: int
    sketches: tuple[bytes, ...]


def read_material(family: Path) -> Material:
    """From a folder of models, one of which is called base-bf16 or base."""
    folders = {path.parent.name: path for path in sorted(family.glob("*/model.safetensors"))}
    base = _floats(folders.pop("base-bf16" if "base-bf16" in folders else "base"))
    folders.pop("base-f32", None)
    rng = np.random.default_rng(0)
    chosen = rng.choice(base.size, _MATERIAL)
    chosen = chosen[np.argsort(np.abs(base[chosen]), kind="stable")]
    changes = [_floats(path)[chosen] - base[chosen] for path in folders.values()]
    real = [change for change in changes if np.count_nonzero(change) > change.size / 10]
    return Material(base[chosen], np.stack(real))


def _floats(path: Path) -> Floats:
    """All BF16 matrices of a model, one after the other in the order of their names."""
    tensors = read_tensors(path, DTYPE)
    large = [tensors[name] for name in sorted(tensors) if tensors[name].nbytes > 100_000]
    return (np.concatenate(large).view("<u2").astype("<u4") << 16).view("<f4")


def bf16(values: Floats) -> NDArray[np.uint16]:
    """The nearest BF16 patterns."""
    bits = values.astype("<f4").view("<u4")
    patterns: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return patterns


def sketch_of(values: Floats, nbytes: int) -> bytes:
    """The sketch of a tensor of `nbytes` bytes of which `values`, (_ITEMS,), are the ones that are sampled."""
    sampled = bf16(values).tobytes()
    at = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal at
        at += length
        return sampled[at - length : at]

    return sketch(read, nbytes, DTYPE)


class Hub:
    """`families` families of about `tensors` tensors in all; the same `seed` makes the same hub."""

    def __init__(self, material: Material, families: int, tensors: int, seed: int = 0) -> None:
        self._material = material
        self._seed = seed
        rng = np.random.default_rng(seed)
        self._slots = rng.integers(*SLOTS, families)
        sizes = rng.pareto(_PARETO, families) + 1
        low, high = 0.0, float(tensors)
        for _ in range(60):
            scale = (low + high) / 2
            enough = int((self._models(sizes, scale) * self._slots).sum()) >= tensors
            low, high = (low, scale) if enough else (scale, high)
        self._count = self._models(sizes, high)

    @staticmethod
    def _models(sizes: NDArray[np.float64], scale: float) -> NDArray[np.int64]:
        return np.clip(np.rint(sizes * scale), 1, MODELS).astype(np.int64)

    @property
    def tensors(self) -> int:
        return int((self._count * self._slots).sum())

    @property
    def models(self) -> int:
        return int(self._count.sum())

    def slots(self) -> Iterator[Slot]:
        for family, (count, slots) in enumerate(zip(self._count.tolist(), self._slots.tolist(), strict=True)):
            yield from self._family(family, count, slots)

    def _family(self, family: int, count: int, slots: int) -> Iterator[Slot]:
        rng = np.random.default_rng((self._seed, family))
        history = _history(rng, count)
        for _ in range(slots):
            nbytes = int(rng.choice(SIZES))
            models = _tensor(rng, self._material, history)
            yield Slot(family, nbytes, tuple(sketch_of(values, nbytes) for values in models))


@dataclass(frozen=True, slots=True)
class _Made:
    """How a model was made: from which (two for an average), and by noise or by a real change of what strength."""

    parents: tuple[int, ...]
    noise: float
    strength: float


def _history(rng: np.random.Generator, count: int) -> list[_Made]:
    """Of the models of a family; the first is its base."""
    made = [_Made((), 0.0, 0.0)]
    majors = [0]
    while len(made) < count:
        number = len(made)
        kind = rng.random()
        parent = int(majors[min(int(rng.pareto(1.0)), len(majors) - 1)])
        if kind < 0.06:
            majors.append(number)
            made.append(_Made((parent,), float(rng.uniform(0.05, 0.4)), 0.0))
        elif kind < 0.16:
            strength = float(rng.lognormal(0.0, 0.6))
            for _ in range(min(int(rng.integers(3, 9)), count - number)):
                made.append(_Made((parent,), 0.0, strength))
                parent = len(made) - 1
        elif kind < 0.20 and number > 2:
            pair = rng.choice(number, 2, replace=False)
            made.append(_Made((int(pair[0]), int(pair[1])), 0.0, 0.0))
        else:
            made.append(_Made((parent,), 0.0, float(rng.lognormal(0.0, 0.8))))
    return made


def _tensor(rng: np.random.Generator, material: Material, history: list[_Made]) -> list[Floats]:
    """One tensor of every model, as the values that its sketch samples."""
    chosen = rng.integers(0, material.weights.size, _ITEMS)
    models: list[Floats] = []
    for made in history:
        if not made.parents:
            models.append(material.weights[chosen] * rng.choice(_SIGNS, _ITEMS))
            continue
        values: Floats = np.mean([models[parent] for parent in made.parents], axis=0, dtype=np.float32)
        if made.noise:
            values = values + rng.normal(0, made.noise * float(values.std()), _ITEMS).astype(np.float32)
        if made.strength:
            alike = np.clip(chosen + rng.integers(-_ALIKE, _ALIKE, _ITEMS), 0, material.weights.size - 1)
            change = material.changes[rng.integers(len(material.changes)), alike]
            values = values + np.float32(made.strength) * change * rng.choice(_SIGNS, _ITEMS)
        models.append(values)
    return models
