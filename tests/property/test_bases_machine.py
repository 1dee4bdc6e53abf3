"""A base is never dropped while needed, whatever is ingested, deleted, optimized, collected and rebuilt in any order.

The model of the catalog is what the files need: for each file its tensors' bytes, and nothing of how they are stored.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import xxhash
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.sql import sql
from tests.support.stores import (
    FREE,
    changed,
    collect_garbage,
    contents,
    optimize_all,
    problems,
    put_file,
    remove,
    tensor_file,
    weights,
)
from zipfs.bases.planning.planner import DEFAULT_PRICES
from zipfs.bases.similarity.backfill import backfill_sketches
from zipfs.ingest.optimize.run import Limits, optimize
from zipfs.store.disk.stopping import Stop
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.store import Store, open_store

ITEMS = 1200
ROOTS = [weights(ITEMS, seed) for seed in (1, 2)]
BRANCHES = [changed(root, bits, 1.0, 10 * bits) for root in ROOTS for bits in (3, 5)]
TENSORS = [*ROOTS, *(changed(branch, 2, 0.2, seed) for branch in BRANCHES for seed in (1, 2, 3))]
"""Two ancestors; of each two models that have drifted away, near and far; and what was tuned from these."""

PATHS = [f"m{n}".encode() for n in range(8)]


def _quietly(what: str, done: int, total: int) -> None:
    return


class BasesMachine(RuleBasedStateMachine):
    """`files` says which tensors each file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store: Store = open_store(self.root / "store", create=True)
        self.files: dict[bytes, tuple[int, ...]] = {}

    def _content(self, chosen: tuple[int, ...]) -> bytes:
        return tensor_file({f"t{n}": ("BF16", [ITEMS], TENSORS[number]) for n, number in enumerate(chosen)})

    @rule(
        path=st.sampled_from(PATHS),
        chosen=st.lists(st.integers(0, len(TENSORS) - 1), min_size=1, max_size=4).map(tuple),
    )
    def ingest(self, path: bytes, chosen: tuple[int, ...]) -> None:
        self._put(path, chosen)

    def _put(self, path: bytes, chosen: tuple[int, ...]) -> None:
        put_file(self.store, self.root / "scratch", path, self._content(chosen))
        self.files[path] = chosen

    @initialize(order=st.permutations(range(1, len(TENSORS))))
    def begin_with_everything(self, order: list[int]) -> None:
        """An ancestor first, so that there is a family to plan."""
        for path, chosen in zip(PATHS, [(0,), *((number,) for number in order)], strict=False):
            self._put(path, chosen)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        remove(self.store, path)
        del self.files[path]

    @rule(prices=st.sampled_from([FREE, DEFAULT_PRICES]), tensors=st.none() | st.integers(0, 6))
    def optimize(self, prices: object, tensors: int | None) -> None:
        limits = Limits(nbytes=None if tensors is None else tensors * 2 * ITEMS)
        optimize_all(self.store, limits=limits, prices=FREE if prices is FREE else DEFAULT_PRICES)

    @rule(reports=st.integers(0, 6))
    def optimize_and_stop(self, reports: int) -> None:
        """Interrupted after some reports."""
        stop = Stop()
        told = 0

        def report(what: str, done: int, total: int) -> None:
            nonlocal told
            told += 1
            if told > reports:
                stop.set()

        optimize(self.store, report, limits=Limits(), stop=stop, prices=FREE)

    @rule()
    def collect(self) -> None:
        collect_garbage(self.store)

    @rule()
    def rebuild(self) -> None:
        self.store.close()
        (self.root / "store" / "catalog.db").unlink()
        assert rebuild(self.root / "store").lost == []
        self.store = open_store(self.root / "store")
        backfill_sketches(self.store, _quietly)

    @invariant()
    def every_needed_tensor_and_its_base_are_there(self) -> None:
        needed = {xxhash.xxh3_128_digest(TENSORS[number]) for chosen in self.files.values() for number in chosen}
        rows = sql(
            self.store.catalog,
            "SELECT id, fingerprint, base_id FROM blobs WHERE id IN (SELECT blob_id FROM extents) AND dtype <> ''",
        )
        assert {fingerprint for _, fingerprint, _ in rows} == needed
        assert len(rows) == len(needed)
        alone = {row[0] for row in sql(self.store.catalog, "SELECT id FROM blobs WHERE base_id IS NULL")}
        assert {base_id for _, _, base_id in rows if base_id is not None} <= alone

    @invariant()
    def every_file_reads_as_it_was_written(self) -> None:
        assert contents(self.root / "store") == {path: self._content(chosen) for path, chosen in self.files.items()}

    def teardown(self) -> None:
        try:
            assert problems(self.store) == []
        finally:
            self.store.close()
            shutil.rmtree(self.root)


TestBases = BasesMachine.TestCase
TestBases.settings = settings(
    max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
