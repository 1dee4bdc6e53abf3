"""Owns the store that grows: families of generated models, stored quarter by quarter, then planned."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import TensorSpec, serialize_file

from tools.benchmarks.catalog.tables import TableSize, table_sizes
from tools.benchmarks.codec.data import BASE_SIGMA
from tools.benchmarks.put_files import Silent
from tools.benchmarks.simulate.hub.data import bf16
from zipfs.ingest.import_tree import find
from zipfs.ingest.optimize.run import plan_rebases
from zipfs.ingest.pipeline import Pipeline
from zipfs.store.store import Store, open_store

QUARTERS: Final = 4
_AT_ONCE: Final = 30
_ROW_ITEMS: Final = 384


@dataclass(frozen=True, slots=True)
class Made:
    """What is generated: `tensors` tensors of `items` BF16 items in each model.

    `noise` is the deviation of what fine-tunes change weights by, over that of the weights, on average: models differ.
    """

    families: int
    models: int
    tensors: int
    items: int
    noise: float
    shuffled: bool = False


@dataclass(slots=True)
class Figures:
    """Sizes in bytes, times in seconds of processors. `tensors` counts blobs that are tensors, `members` those with a
    base.
    """

    made: Made
    tensors: int = 0
    members: int = 0
    packs_nbytes: int = 0
    needed_nbytes: int = 0
    catalog_nbytes: int = 0
    tables: list[TableSize] = field(default_factory=list)
    quarters_s: list[float] = field(default_factory=list)
    rebasing_s: float = 0.0
    planning_s: float = 0.0


def grow(made: Made, folder: Path) -> Figures:
    """Store all models in a new store below `folder` and measure it."""
    figures = Figures(made)
    with open_store(folder / "store", create=True) as store:
        order = _order(made)
        for quarter in range(QUARTERS):
            chosen = order[len(order) * quarter // QUARTERS : len(order) * (quarter + 1) // QUARTERS]
            seconds_s, rebasing_s = _store(store, made, chosen, folder / "models")
            figures.quarters_s.append(seconds_s)
            figures.rebasing_s += rebasing_s
            print(f"bench: {quarter + 1} of {QUARTERS} quarters", file=sys.stderr)
        figures.planning_s = _timed(lambda: plan_rebases(store, lambda what, done, total: None))
        sizes = store.catalog.store_sizes(freeable_nbytes=0)
        figures.needed_nbytes = sizes.added_nbytes + sizes.kept_nbytes
        figures.packs_nbytes = sum(store.packs.nbytes(name) for name in store.packs.names())
        blobs = store.catalog.blob_table()
        is_tensor = np.array([name != "" for name in blobs.dtype_names])[blobs.dtypes]
        figures.tensors = int(is_tensor.sum())
        figures.members = int((is_tensor & (blobs.bases >= 0)).sum())
    figures.tables = table_sizes(folder / "store")
    figures.catalog_nbytes = sum(table.nbytes for table in figures.tables)
    return figures


def _order(made: Made) -> list[int]:
    if made.shuffled:
        return np.random.default_rng(0).permutation(made.models).tolist()  # type: ignore[no-any-return]
    return list(range(made.models))


def _store(store: Store, made: Made, chosen: list[int], folder: Path) -> tuple[float, float]:
    """Store some models; return seconds of storing them, and of the rebase after each ingest."""
    storing_s = rebasing_s = 0.0
    for start in range(0, len(chosen), _AT_ONCE):
        for number in chosen[start : start + _AT_ONCE]:
            _write_model(made, number, folder / f"{number:05}")
        pipeline = Pipeline(store, Silent())
        sources = find(store, folder, b"models").sources
        storing_s += _timed(lambda pipeline=pipeline, sources=sources: pipeline.run(sources))  # type: ignore[misc]
        rebasing_s += _timed(pipeline.rebase)
        pipeline.close()
        shutil.rmtree(folder)
    return storing_s, rebasing_s


def _timed(call: Callable[[], object]) -> float:
    begin_s = time.process_time()
    call()
    return time.process_time() - begin_s


def _write_model(made: Made, number: int, folder: Path) -> None:
    """Write a model: the first of each family is its base."""
    values = [bf16(tensor) for tensor in _tensors(made, number)]
    specs = {
        f"model.layers.{at}.mlp.weight": TensorSpec(
            dtype="bfloat16",
            shape=(made.items // _ROW_ITEMS, _ROW_ITEMS),
            data_ptr=bits.ctypes.data,
            data_len=bits.nbytes,
        )
        for at, bits in enumerate(values)
    }
    folder.mkdir(parents=True)
    serialize_file(specs, folder / "model.safetensors", {"format": "pt"})


def _tensors(made: Made, number: int) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    generation, family = divmod(number, made.families)
    rng, of_base = np.random.default_rng((1, number)), np.random.default_rng((0, family))
    noise = made.noise * float(rng.lognormal(0.0, 0.5)) if generation else 0.0
    items = made.items // _ROW_ITEMS * _ROW_ITEMS
    for _ in range(made.tensors):
        weights = of_base.standard_normal(items, np.float32) * np.float32(BASE_SIGMA)
        changed = rng.standard_normal(items, np.float32) * np.float32(BASE_SIGMA * noise)
        yield weights + changed
