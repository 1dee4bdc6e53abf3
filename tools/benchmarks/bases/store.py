"""Owns how stores are judged: a family in several orders of arrival, and what ingest spends on search."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from safetensors import TensorSpec, serialize_file

from tools.benchmarks.codec.data import BASE_SIGMA
from tools.benchmarks.put_files import ingest
from tools.benchmarks.simulate.hub.data import bf16
from zipfs.bases.similarity.base_choice import choose_whole_base
from zipfs.bases.similarity.minhash import SampleScan
from zipfs.bases.similarity.partial_matches import search_partial_matches
from zipfs.ingest import plan
from zipfs.ingest.inspect import Inspector
from zipfs.ingest.optimize.run import NO_LIMITS, optimize
from zipfs.store.disk.stopping import Stop
from zipfs.store.store import Store, open_store

ORDERS: Final = 12
SEARCHING: Final[tuple[tuple[object, Callable[..., Any]], ...]] = (
    (Inspector, Inspector.features),
    (plan, choose_whole_base),
    (SampleScan, SampleScan.feed),
    (SampleScan, SampleScan.sample),
    (plan, search_partial_matches),
)
"""Where functions are called by name, and the functions; they are sketching and search, and none calls another one."""


@dataclass(frozen=True, slots=True)
class Order:
    """Models in an order of arrival, and the bytes of blobs that are needed, before optimize and after it.

    Times are of processors, so that what else the machine does is left out.
    """

    models: tuple[str, ...]
    before_nbytes: int
    after_nbytes: int
    packs_nbytes: int
    ingest_s: float
    searching_s: float


def orders(names: Sequence[str], seed: int = 0) -> list[tuple[str, ...]]:
    """Each model first once, and some at random."""
    rng = np.random.default_rng(seed)
    found = [(name, *(other for other in names if other != name)) for name in names]
    return found + [tuple(rng.permutation(names).tolist()) for _ in range(ORDERS - len(found))]


def write_large(folder: Path, models: int = 4, tensors: int = 8, items: int = 1 << 22) -> dict[str, Path]:
    """Models of few large tensors, as those of large language models are: a base, and fine-tunes of it."""
    rng = np.random.default_rng(0)
    base = [rng.normal(0, BASE_SIGMA, items).astype(np.float32) for _ in range(tensors)]
    found = {}
    for number in range(models):
        noise = np.float32(1e-3 if number else 0.0)
        values = [bf16(weights + noise * rng.standard_normal(items, np.float32)) for weights in base]
        specs = {
            f"t{n}": TensorSpec(
                dtype="bfloat16", shape=(items // 2048, 2048), data_ptr=bits.ctypes.data, data_len=bits.nbytes
            )
            for n, bits in enumerate(values)
        }
        path = folder / f"large-{number}"
        path.mkdir(parents=True)
        serialize_file(specs, path / "model.safetensors", None)
        found[path.name] = path
    return found


def measure(models: Mapping[str, Path], chosen: Sequence[tuple[str, ...]]) -> Iterator[Order]:
    """Ingest the models one by one in each order, then optimize."""
    for order in chosen:
        with TemporaryDirectory() as scratch, open_store(Path(scratch) / "store", create=True) as store:
            begin = time.process_time()
            with _timed(SEARCHING) as searching_s:
                for name in order:
                    ingest(store, models[name], name)
            ingest_s = time.process_time() - begin
            before = _needed_nbytes(store)
            optimize(store, lambda what, done, total: None, limits=NO_LIMITS, stop=Stop())
            packs = sum(store.packs.nbytes(name) for name in store.packs.names())
            yield Order(order, before, _needed_nbytes(store), packs, ingest_s, sum(searching_s))


def _needed_nbytes(store: Store) -> int:
    sizes = store.catalog.store_sizes(freeable_nbytes=0)
    return sizes.added_nbytes + sizes.kept_nbytes


@contextmanager
def _timed(methods: Sequence[tuple[object, Callable[..., Any]]]) -> Iterator[list[float]]:
    """The seconds of processor time that each call of some methods takes meanwhile."""
    taken_s: list[float] = []

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: object, **options: object) -> object:
            begin = time.thread_time()
            try:
                return method(*arguments, **options)
            finally:
                taken_s.append(time.thread_time() - begin)

        return timed

    for owner, method in methods:
        setattr(owner, method.__name__, watched(method))
    try:
        yield taken_s
    finally:
        for owner, method in methods:
            setattr(owner, method.__name__, method)
