"""Owns a run of the optimizer: plan for the whole store, rebase what gains most for each byte moved, collect what
that has left behind.

Each pack is a step of its own, after which the store is whole and smaller or hardly larger; the pack lock is let go
between two steps, so that an ingest waits for one step at most. What was interrupted is planned anew from where it got
to. Run by one thread; `stop` may be set from any.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from zipfs.bases.planning.plan_store import plan_store
from zipfs.bases.planning.planner import DEFAULT_PRICES, Prices, RebasePlan, RebaseStep
from zipfs.bases.similarity.backfill import backfill_sketches
from zipfs.errors import NoSpace, NotWritable, Stopped, StoreBusy
from zipfs.ingest.optimize.rebase import Pace, Rebased, RebaseUnit, rebase
from zipfs.store.disk.files import full_disk_told
from zipfs.store.disk.progress import Report
from zipfs.store.disk.space import free_nbytes
from zipfs.store.disk.stopping import Stop
from zipfs.store.maintenance.collect import SHED, Collected, collect
from zipfs.store.store import Store

log = logging.getLogger(__name__)

PACK_NBYTES = 256 << 20
"""Raw bytes of a step: a few seconds of work, and of waiting for others."""
_PACK_TENSORS = 4096
_LEAST_FREE_NBYTES = 64 << 20
_MOST_STEPS = 200_000
"""Steps held in memory, the best; what is left is found by the next run."""
_LET_OTHERS_IN_S = 0.25
"""Whoever waits for the pack lock looks every tenth of a second."""
BUSY = "another process is compressing or collecting in this store"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run: raw bytes rebased, and raw bytes a second. None: no limit."""

    nbytes: int | None = None
    rate: int | None = None


NO_LIMITS: Final = Limits()


@dataclass(slots=True)
class Optimized:
    """What a run did. `stopped` if it was interrupted, `left_nbytes` raw bytes that the limit left to the next run."""

    rebased: Rebased = field(default_factory=Rebased)
    collected: Collected = field(default_factory=Collected)
    left_nbytes: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class StorePlan:
    """The plans that gain most, and what all tensors of the clusters looked at take."""

    clusters: int
    before_nbytes: int
    plans: tuple[RebasePlan, ...]
    complete: bool
    """Whether all plans are there that gain."""


def plan_rebases(store: Store, report: Report, prices: Prices = DEFAULT_PRICES) -> StorePlan:
    """Plan rebases for the whole store; change nothing but sketches that are missing."""
    backfill_sketches(store, report)
    clusters = before_nbytes = steps = 0
    heap: list[tuple[float, int, RebasePlan]] = []
    complete = True
    for plan in plan_store(store, report, prices):
        clusters += 1
        before_nbytes += plan.before_nbytes
        if plan.gain_nbytes <= 0 or not plan.steps:
            continue
        heapq.heappush(heap, (plan.gain_per_byte, clusters, plan))
        steps += len(plan.steps)
        while steps > _MOST_STEPS and len(heap) > 1:
            steps -= len(heapq.heappop(heap)[2].steps)
            complete = False
    best = tuple(plan for _, _, plan in sorted(heap, key=lambda entry: -entry[0]))
    return StorePlan(clusters, before_nbytes, best, complete)


def optimize(
    store: Store,
    report: Report,
    *,
    limits: Limits,
    stop: Stop,
    wait: bool = True,
    threads: int = 2,
    prices: Prices = DEFAULT_PRICES,
) -> Optimized:
    """Make the store smaller. With `wait`, other processes that write packs are waited for; without, they end the run.

    Raises NoSpace, Damaged; what was done until then stays.
    """
    done = Optimized()

    def watched(what: str, so_far: int, total: int) -> None:
        stop.check()
        report(what, so_far, total)

    with ThreadPoolExecutor(threads, thread_name_prefix="rebase") as executor:
        try:
            with full_disk_told(store.path):
                _Run(store, executor, watched, limits, prices, stop, wait, done).run()
        except Stopped:
            done.stopped = True
        except StoreBusy:
            if wait and not stop.is_set():
                raise
            done.stopped = True
    return done


class _Run:
    """A run of `optimize`."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        report: Report,
        limits: Limits,
        prices: Prices,
        stop: Stop,
        wait: bool,
        done: Optimized,
    ) -> None:
        self._store = store
        self._executor = executor
        self._report = report
        self._limit_nbytes = limits.nbytes
        self._prices = prices
        self._pace = Pace(limits.rate, stop)
        self._stop = stop
        self._wait = wait
        self._done = done
        self._tried: set[int] = set()
        """First blobs of the plans that were begun: what was given up would be planned again."""

    def run(self) -> None:
        while True:
            seen = plan_rebases(self._store, self._report, self._prices)
            plans = [plan for plan in seen.plans if plan.steps[0].blob_id not in self._tried]
            if sum(plan.gain_nbytes for plan in plans) < self._prices.run * seen.before_nbytes:
                break
            chosen = list(self._within_limit(plans))
            total = sum(unit.nbytes for unit in chosen)
            begun = 0
            for units in in_packs(chosen):
                self._report("rebasing", begun, total)
                self._step(units)
                begun += sum(unit.nbytes for unit in units)
            self._report("rebasing", total, total)
            if seen.complete or not chosen or self._done.left_nbytes:
                break
        if not self._done.rebased.tensors and not self._wait:
            return
        with self._lock():
            self._done.collected = collect(self._store, self._report, sparse=SHED)

    def _within_limit(self, plans: Iterable[RebasePlan]) -> Iterator[RebaseUnit]:
        """Yield plans as units of at most a pack each; the last of them may be cut short by the limit."""
        for plan in plans:
            self._tried.add(plan.steps[0].blob_id)
            left = plan.moved_nbytes
            for unit in in_units(plan):
                if self._limit_nbytes is not None:
                    if unit.nbytes > self._limit_nbytes:
                        break
                    self._limit_nbytes -= unit.nbytes
                left -= unit.nbytes
                yield unit
            self._done.left_nbytes += left

    def _step(self, units: list[RebaseUnit]) -> None:
        predicted_nbytes = sum(step.predicted_nbytes for unit in units for step in unit.steps)
        with self._lock():
            if free_nbytes(self._store.path) < 2 * predicted_nbytes + _LEAST_FREE_NBYTES:
                collect(self._store, self._report)
            step = rebase_each(self._store, self._executor, units, self._pace)
        self._done.rebased.add(step)
        self._stop.wait(_LET_OTHERS_IN_S)

    def _lock(self) -> AbstractContextManager[None]:
        waiting = (lambda: self._report("waiting: " + BUSY, 0, 1)) if self._wait else None
        return self._store.lock("pack").held(BUSY, waiting=waiting, stop=self._stop)


def rebase_each(store: Store, executor: Executor, units: list[RebaseUnit], pace: Pace) -> Rebased:
    """Carry out some units in one pack, or each in one of its own where that fails: one family holds up no other.

    Raises NoSpace, NotWritable, StoreBusy, Stopped, OSError.
    """
    try:
        return rebase(store, executor, units, pace)
    except (NoSpace, NotWritable, StoreBusy, Stopped, OSError):
        raise
    except Exception:
        if len(units) == 1:
            log.exception("left as they are, blob %d and those planned with it", units[0].steps[0].blob_id)
            return Rebased(given_up=1)
    done = Rebased()
    for unit in units:
        done.add(rebase_each(store, executor, [unit], pace))
    return done


def in_units(plan: RebasePlan) -> Iterator[RebaseUnit]:
    """Yield the steps of a plan in its order, at most a pack of them in each unit."""
    steps: list[RebaseStep] = []
    nbytes = 0
    for step in plan.steps:
        if steps and (nbytes + step.nbytes > PACK_NBYTES or len(steps) >= _PACK_TENSORS):
            yield RebaseUnit(tuple(steps), plan.gain_nbytes)
            steps, nbytes = [], 0
        steps.append(step)
        nbytes += step.nbytes
    if steps:
        yield RebaseUnit(tuple(steps), plan.gain_nbytes)


def in_packs(units: Iterable[RebaseUnit]) -> Iterator[list[RebaseUnit]]:
    """Yield the units that go into one pack each."""
    pack: list[RebaseUnit] = []
    nbytes = tensors = 0
    for unit in units:
        if pack and (nbytes + unit.nbytes > PACK_NBYTES or tensors + len(unit.steps) > _PACK_TENSORS):
            yield pack
            pack, nbytes, tensors = [], 0, 0
        pack.append(unit)
        nbytes += unit.nbytes
        tensors += len(unit.steps)
    if pack:
        yield pack
