"""Owns the rebase after an ingest: a small family that has grown and has a better base in it changes over to that.

Models come in any order, and the first of a family, which became its base, may be its outlier.  As long as a family is
small it takes little to rebase it, which it has to pay for well; large ones are left to the optimizer. Run by the
thread that ran the pipeline.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

from zipfs.bases.planning.plan_store import plan_family
from zipfs.bases.planning.planner import DEFAULT_PRICES, RebasePlan, in_order_of_gain
from zipfs.bases.similarity.feature_reader import FeatureReader
from zipfs.errors import Damaged, NoSpace
from zipfs.ingest.optimize.rebase import Pace, Rebased
from zipfs.ingest.optimize.run import BUSY, in_packs, in_units, rebase_each
from zipfs.store.disk.files import full_disk_told
from zipfs.store.disk.stopping import Stop
from zipfs.store.maintenance.collect import shed
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_PRICES: Final = replace(DEFAULT_PRICES, moved=0.02)
"""Whoever copies a model in waits for this, so it has to pay four times as much as what is done in the background."""
_MOST_TENSORS: Final = 16
"""Of a family that is small."""
_MOST_MOVED: Final = 8
"""Raw bytes rebased, over those that have joined: each of a small family, once in a while."""
_LEAST_NBYTES: Final = 64 << 10
"""What smaller tensors could gain is not worth the planning."""


def rebase_after_ingest(
    store: Store, reader: FeatureReader, executor: Executor, bases: Iterable[BlobId], joined_nbytes: int, stop: Stop
) -> Rebased:
    """Rebase what gains in the small families of some bases, which `joined_nbytes` raw bytes have just joined.

    `reader` may remember sketches of them.

    A damaged family stays as it is, and a full disk or a damaged catalog end it early: everything is stored already.
    Raises NotWritable, StoreBusy, Stopped, OSError.
    """
    plans = (plan_family(store, reader, base, _LEAST_NBYTES, _MOST_TENSORS, _PRICES) for base in bases)
    worth = _within(_MOST_MOVED * joined_nbytes, in_order_of_gain([plan for plan in plans if plan is not None]))
    done = Rebased()
    pace = Pace(None, stop)
    try:
        for units in in_packs(unit for plan in worth for unit in in_units(plan)):
            with full_disk_told(store.path), store.lock("pack").held(BUSY, waiting=lambda: None, stop=stop):
                step = rebase_each(store, executor, units, pace)
                shed(store, step.packs)
            done.add(step)
    except (NoSpace, Damaged) as error:
        log.warning("better bases are left to the optimizer: %s", error)
    return done


def _within(limit_nbytes: int, plans: Iterable[RebasePlan]) -> Iterator[RebasePlan]:
    for plan in plans:
        if plan.moved_nbytes <= limit_nbytes:
            limit_nbytes -= plan.moved_nbytes
            yield plan
