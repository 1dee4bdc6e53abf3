"""What is asked of a cache for frames of bases: which models there are, and in which order they are read.

A frame is asked for when the frame of a fine-tune that lies over it is decoded. Everything here follows from a seed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zipfs.store.catalog.queries import Catalog
from zipfs.store.frames.policy import Key
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, Inode
from zipfs.store.store import open_store


class Run(NamedTuple):
    """Bytes [start, start + nbytes) of a base, which a fine-tune needs one after the other."""

    blob_id: int
    start: int
    nbytes: int


Model = Sequence[Run]
Family = Sequence[Model]
"""Fine-tunes that mostly need the same bases."""


class Architecture(NamedTuple):
    """As in a model's config.json."""

    name: str
    hidden: int
    layers: int
    inner: int
    key_value: int
    vocabulary: int
    tied: bool


ARCHITECTURES = (
    Architecture("Qwen2.5-0.5B", 896, 24, 4864, 128, 151936, tied=True),
    Architecture("Llama-3.2-1B", 2048, 16, 8192, 512, 128256, tied=True),
    Architecture("Qwen2.5-1.5B", 1536, 28, 8960, 256, 151936, tied=True),
    Architecture("Gemma-2-2B", 2304, 26, 9216, 1024, 256000, tied=True),
    Architecture("Llama-3.2-3B", 3072, 28, 8192, 1024, 128256, tied=True),
    Architecture("Mistral-7B", 4096, 32, 14336, 1024, 32000, tied=False),
    Architecture("Qwen2.5-7B", 3584, 28, 18944, 512, 152064, tied=False),
    Architecture("Llama-3.1-8B", 4096, 32, 14336, 1024, 128256, tied=False),
    Architecture("Gemma-2-9B", 3584, 42, 14336, 2048, 256000, tied=True),
    Architecture("Qwen2.5-14B", 5120, 48, 13824, 1024, 152064, tied=False),
    Architecture("Qwen2.5-32B", 5120, 64, 27648, 1024, 152064, tied=False),
)
"""BF16 models that many fine-tunes are made of."""


def base_model(architecture: Architecture, blob_ids: Iterator[int]) -> Model:
    """The tensors of a base; a query and an output matrix are taken to be square."""
    _, hidden, layers, inner, key_value, vocabulary, tied = architecture
    layer = [hidden, hidden * hidden, key_value * hidden, key_value * hidden, hidden * hidden, hidden]
    layer += [inner * hidden] * 3
    items = [vocabulary * hidden, *layer * layers, hidden, *([] if tied else [vocabulary * hidden])]
    return [Run(next(blob_ids), 0, 2 * count) for count in items]


def plausible_hub() -> list[Family]:
    """One family for each architecture."""
    blob_ids = itertools.count(1)
    return [[base_model(architecture, blob_ids)] for architecture in ARCHITECTURES]


def families_of(path: Path) -> list[Family]:
    """The files of a store that need bases; those that begin with the same base are a family."""
    families: dict[int, list[Model]] = {}
    with open_store(path, read_only=True) as store:
        for _, inode in tree.walk(store.catalog, store.catalog.inode(ROOT)):
            model = _runs(store.catalog, inode)
            if model:
                families.setdefault(model[0].blob_id, []).append(model)
    return list(families.values())


def _runs(catalog: Catalog, inode: Inode) -> Model:
    blobs = catalog.blobs_of(inode)
    runs = []
    for extent in catalog.extents(inode):
        base = blobs[extent.blob_id].base
        if base is not None:
            start, nbytes = base.view.needed(extent.blob_offset, extent.nbytes)
            if nbytes:
                runs.append(Run(base.blob_id, start, nbytes))
    return runs


def nbytes_of(family: Family) -> int:
    """Of all bases that the family needs, each counted once."""
    ends: dict[int, int] = {}
    for run in itertools.chain.from_iterable(family):
        ends[run.blob_id] = max(ends.get(run.blob_id, 0), run.start + run.nbytes)
    return sum(ends.values())


class Trace(NamedTuple):
    """Keys in the order in which they are asked for, and how many bytes each frame has."""

    accesses: list[Key]
    nbytes: dict[Key, int]


class Frames:
    """Models as frames of `frame_nbytes`; each frame is the same tuple wherever it occurs, to save memory."""

    def __init__(self, frame_nbytes: int) -> None:
        self.frame_nbytes = frame_nbytes
        self.nbytes: dict[Key, int] = {}
        self._keys: dict[Key, Key] = {}
        self._runs: dict[Run, list[Key]] = {}

    def load(self, model: Model) -> list[Key]:
        """All frames of a model in order."""
        return [key for run in model for key in self._frames(run)]

    def _frames(self, run: Run) -> list[Key]:
        found = self._runs.get(run)
        if found is None:
            end = run.start + run.nbytes
            numbers = range(run.start // self.frame_nbytes, (end - 1) // self.frame_nbytes + 1)
            keys = ((run.blob_id, number) for number in numbers)
            found = self._runs[run] = [self._keys.setdefault(key, key) for key in keys]
            for key in found:
                nbytes = min(end - key[1] * self.frame_nbytes, self.frame_nbytes)
                self.nbytes[key] = max(nbytes, self.nbytes.get(key, 0))
        return found


class Weighted:
    """Draws families by Zipf's law: the n-th most popular with a weight of 1/n."""

    def __init__(self, families: Sequence[Family], rng: random.Random) -> None:
        self._ranked = rng.sample(list(families), len(families))
        self._weights = [1 / rank for rank in range(1, len(families) + 1)]
        self._rng = rng

    def family(self) -> Family:
        return self._rng.choices(self._ranked, self._weights)[0]

    def model(self) -> Model:
        return self._rng.choice(self.family())


Loads = Iterator[Sequence[Key]]
Pattern = Callable[[Sequence[Family], Frames, random.Random], Loads]


def one_family(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """Fine-tunes of one family, one after the other."""
    family = sorted(families, key=nbytes_of)[len(families) // 2]
    while True:
        yield frames.load(rng.choice(family))


def skewed(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """Fine-tunes of all families, by popularity."""
    drawn = Weighted(families, rng)
    while True:
        yield frames.load(drawn.model())


def bursts(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """The same, two to six fine-tunes of a family one after the other."""
    drawn = Weighted(families, rng)
    while True:
        family = drawn.family()
        for _ in range(rng.randint(2, 6)):
            yield frames.load(rng.choice(family))


def phases(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """By popularity, which is a new one every twelve loads."""
    while True:
        drawn = Weighted(families, rng)
        for _ in range(12):
            yield frames.load(drawn.model())


def one_off(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """By popularity; every other load is of a family that is never read again."""
    drawn = Weighted(families, rng)
    blob_ids = itertools.count(1 << 40)
    while True:
        yield frames.load(drawn.model())
        scanned = rng.choice(rng.choice(families))
        yield frames.load([run._replace(blob_id=next(blob_ids)) for run in scanned])


def interleave(loads: Sequence[Sequence[Key]], lags: Sequence[int], rng: random.Random) -> Iterator[Key]:
    """Several loads at once, each begun so many frames late; chance says who is next, but nobody falls far behind."""
    at = [-lag for lag in lags]
    running = list(range(len(loads)))
    while running:
        reader = min(rng.sample(running, min(2, len(running))), key=lambda one: at[one] + lags[one])
        if at[reader] >= 0:
            yield loads[reader][at[reader]]
        at[reader] += 1
        if at[reader] == len(loads[reader]):
            running.remove(reader)


def together(apart_nbytes: int) -> Pattern:
    """Eight fine-tunes of a family at once, so many bytes apart at most."""

    def pattern(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
        drawn = Weighted(families, rng)
        apart = apart_nbytes // frames.frame_nbytes
        while True:
            family = drawn.family()
            loads = [frames.load(rng.choice(family)) for _ in range(8)]
            yield list(interleave(loads, [rng.randint(0, apart) for _ in loads], rng))

    return pattern


def side_by_side(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """Three fine-tunes at once, by popularity, each at its own place."""
    drawn = Weighted(families, rng)
    while True:
        loads = [frames.load(drawn.model()) for _ in range(3)]
        yield list(interleave(loads, [rng.randint(0, len(load) // 2) for load in loads], rng))


def random_reads(families: Sequence[Family], frames: Frames, rng: random.Random) -> Loads:
    """Reads of 4 KiB anywhere: half of them in the first tensor, as of embeddings; models by popularity."""
    drawn = Weighted(families, rng)
    while True:
        model = drawn.model()
        everything = frames.load(model)
        first = frames.load(model[:1])
        yield [rng.choice(first if rng.random() < 0.5 else everything) for _ in range(2000)]


TRACES: Mapping[str, Pattern] = {
    "one family": one_family,
    "skewed": skewed,
    "in bursts": bursts,
    "in phases": phases,
    "one-off scans": one_off,
    "8 in 16 MiB": together(16 << 20),
    "8 in 128 MiB": together(128 << 20),
    "3 side by side": side_by_side,
    "random reads": random_reads,
}


def make_trace(name: str, families: Sequence[Family], frame_nbytes: int, accesses: int, seed: int) -> Trace:
    """One of TRACES, of so many accesses."""
    frames = Frames(frame_nbytes)
    loads = TRACES[name](families, frames, random.Random(f"{name} {seed}"))
    found = list(itertools.islice(itertools.chain.from_iterable(loads), accesses))
    return Trace(found, frames.nbytes)
