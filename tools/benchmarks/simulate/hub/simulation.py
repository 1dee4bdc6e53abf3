"""Plans a simulated hub and prints what that is worth.

Three ways to choose bases meet on the same tensors in the same shuffled order of arrival: each tensor coded against the
best base so far (as they come), the online rule of an ingest, and the planner after that.  Clusters that are small
enough are also solved exactly, as integer programs.  Sizes are predicted ones.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tools.benchmarks.simulate.hub.data import DTYPE, Hub, Material, Slot
from zipfs.bases.planning.costs import make_cluster
from zipfs.bases.planning.facility_location import Problem, solve
from zipfs.bases.planning.planner import Cluster, Tensor, plan
from zipfs.bases.similarity.choose_base import Choice, choose_base
from zipfs.bases.similarity.open_new_base import SIBLINGS, is_poor, worth_opening
from zipfs.bases.similarity.signature import as_words, signature
from zipfs.bases.similarity.size_model import predict_standalone
from zipfs.codec import item_nbytes

FEW: Final = 10
"""In clusters of so many tensors the planner tries every set of bases itself."""
EXACT: Final = 40
"""Tensors of the largest clusters that are solved exactly."""
EXACT_CLUSTERS: Final = 400
REPORT_EVERY_S: Final = 10.0


@dataclass(slots=True)
class Figures:
    """Totals in bytes, times in seconds."""

    families: int = 0
    models: int = 0
    tensors: int = 0
    raw_nbytes: int = 0
    standalone_nbytes: float = 0.0
    as_they_come_nbytes: float = 0.0
    online_nbytes: float = 0.0
    planned_nbytes: float = 0.0
    moved_nbytes: int = 0
    bases_as_they_come: int = 0
    bases_online: int = 0
    bases_planned: int = 0
    solved_clusters: int = 0
    solved_tensors: int = 0
    found_nbytes: float = 0.0
    exact_nbytes: float = 0.0
    worstover_exact: float = 1.0
    planning_s: float = 0.0
    online_s: float = 0.0


@dataclass(slots=True)
class Arrived:
    """Index of each tensor's base, -1 if it is coded standalone, and what each takes."""

    base: list[int]
    stored: list[float]

    @property
    def total(self) -> float:
        return sum(self.stored)

    @property
    def bases(self) -> int:
        return self.base.count(-1)


def arrive(slot: Slot, order: Sequence[int], *, opening: bool) -> Arrived:
    """Tensors come one by one; each takes the best base so far, or with `opening` may become one itself."""
    base, stored = [-1] * len(order), [0.0] * len(order)
    bases: list[int] = []
    members: dict[int, list[int]] = {}
    words = as_words(b"".join(signature(sketch, DTYPE) for sketch in slot.sketches))
    for index in order:
        mine = slot.sketches[index]
        near = _nearest(words, index, bases, 32)
        choice = choose_base(mine, slot.nbytes, DTYPE, [(other, slot.sketches[other]) for other in near])
        if choice is not None and opening and is_poor(choice):
            siblings = [slot.sketches[one] for one in _nearest(words, index, members.get(choice.blob_id, []), SIBLINGS)]
            if worth_opening(mine, slot.nbytes, DTYPE, choice, slot.sketches[choice.blob_id], siblings):
                choice = None
        stored[index] = _nbytes(mine, slot.nbytes, choice)
        if choice is None:
            bases.append(index)
        else:
            base[index] = choice.blob_id
            members.setdefault(choice.blob_id, []).append(index)
    return Arrived(base, stored)


def _nearest(words: NDArray[np.uint64], index: int, others: list[int], at_most: int) -> list[int]:
    if len(others) <= at_most:
        return others
    distances = np.bitwise_count(words[others] ^ words[index]).sum(axis=1, dtype=np.int64)
    return [others[at] for at in np.argsort(distances, kind="stable")[:at_most].tolist()]


def _nbytes(mine: bytes, nbytes: int, choice: Choice | None) -> float:
    if choice is not None:
        return float(choice.predicted_nbytes)
    return min(predict_standalone(mine, DTYPE) * nbytes / item_nbytes(DTYPE) / 8, nbytes)


def simulate(slot: Slot, rng: np.random.Generator, figures: Figures) -> None:
    """Let the tensors of a slot come in some order, and plan them then."""
    order = rng.permutation(len(slot.sketches)).tolist()
    came = arrive(slot, order, opening=False)
    begin = time.process_time()
    online = arrive(slot, order, opening=True)
    figures.online_s += time.process_time() - begin
    figures.tensors += len(order)
    figures.raw_nbytes += len(order) * slot.nbytes
    figures.standalone_nbytes += sum(_nbytes(sketch, slot.nbytes, None) for sketch in slot.sketches)
    figures.as_they_come_nbytes += came.total
    figures.bases_as_they_come += came.bases
    figures.online_nbytes += online.total
    figures.bases_online += online.bases
    begin = time.process_time()
    tensors = [
        Tensor(index + 1, max(1, round(stored)), base + 1 or None)
        for index, (stored, base) in enumerate(zip(online.stored, online.base, strict=True))
    ]
    cluster = make_cluster(DTYPE, slot.nbytes, tensors, slot.sketches)
    planned = plan(cluster)
    figures.planning_s += time.process_time() - begin
    figures.planned_nbytes += planned.after_nbytes
    figures.moved_nbytes += planned.moved_nbytes
    bases = {tensor.blob_id: tensor.base_id for tensor in tensors}
    bases |= {step.blob_id: step.base_id for step in planned.steps}
    figures.bases_planned += list(bases.values()).count(None)
    if FEW < len(order) <= EXACT and figures.solved_clusters < EXACT_CLUSTERS:
        compare_with_exact(cluster, figures)


def compare_with_exact(cluster: Cluster, figures: Figures) -> None:
    """Solve a cluster from scratch by our search and as an integer program."""
    own = np.array(cluster.candidates)
    serve = cluster.against.copy()
    serve[own, np.arange(len(own))] = 0.0
    problem = Problem(cluster.standalone, serve, cluster.standalone[own])
    found, best = solve(problem, np.empty(0, np.intp)).total, exact(problem)
    figures.solved_clusters += 1
    figures.solved_tensors += len(cluster.tensors)
    figures.found_nbytes += found
    figures.exact_nbytes += best
    figures.worstover_exact = max(figures.worstover_exact, found / best)


def exact(problem: Problem) -> float:
    """The smallest total there is, by HiGHS."""
    optimize = importlib.import_module("scipy.optimize")
    sparse = importlib.import_module("scipy.sparse")

    clients, facilities = problem.serve.shape
    pairs = clients * facilities
    costs = np.concatenate([problem.serve.ravel(), problem.standalone, problem.opening])
    rows = np.repeat(np.arange(clients), facilities)
    served = sparse.coo_array((np.ones(pairs), (rows, np.arange(pairs))), (clients, pairs))
    alone = sparse.coo_array((np.ones(clients), (np.arange(clients), np.arange(clients))), (clients, clients))
    none = sparse.coo_array((clients, facilities))
    columns = np.tile(np.arange(facilities), clients)
    uses = sparse.coo_array((np.ones(pairs), (np.arange(pairs), np.arange(pairs))), (pairs, pairs))
    opened = sparse.coo_array((-np.ones(pairs), (np.arange(pairs), columns)), (pairs, facilities))
    constraints = [
        optimize.LinearConstraint(sparse.hstack([served, alone, none]).tocsr(), 1, 1),
        optimize.LinearConstraint(
            sparse.hstack([uses, sparse.coo_array((pairs, clients)), opened]).tocsr(), -np.inf, 0
        ),
    ]
    integral = np.concatenate([np.zeros(pairs + clients), np.ones(facilities)])
    result = optimize.milp(costs, integrality=integral, bounds=optimize.Bounds(0, 1), constraints=constraints)
    if not result.success:
        sys.exit(f"bench: the exact solver gave up: {result.message}")
    return float(result.fun)


def run(material: Material, families: int, tensors: int, seed: int = 0) -> Figures:
    """Simulate a whole hub; tells on stderr how far it has come."""
    hub = Hub(material, families, tensors, seed)
    figures = Figures(families=families, models=hub.models)
    rng = np.random.default_rng(seed)
    told_s = time.monotonic()
    for slot in hub.slots():
        simulate(slot, rng, figures)
        if time.monotonic() - told_s > REPORT_EVERY_S:
            told_s = time.monotonic()
            print(f"bench: {figures.tensors} of {hub.tensors} tensors", file=sys.stderr)
    return figures


def print_figures(console: Console, figures: Figures) -> None:
    title = f"{figures.families} families, {figures.models} models, {figures.tensors} tensors"
    table = Table("bases chosen", title=f"{title}, {figures.raw_nbytes / 1e12:.1f} TB")
    for heading in ("of raw", "over as they come", "bases"):
        table.add_column(heading, justify="right")
    rows = (
        ("none, each standalone", figures.standalone_nbytes, figures.tensors),
        ("as they come", figures.as_they_come_nbytes, figures.bases_as_they_come),
        ("online rule", figures.online_nbytes, figures.bases_online),
        ("planner", figures.planned_nbytes, figures.bases_planned),
    )
    for name, nbytes, bases in rows:
        over = nbytes / figures.as_they_come_nbytes
        table.add_row(name, f"{nbytes / figures.raw_nbytes:.4f}", f"{over:.3f}", str(bases))
    console.print(table)
    console.print(
        f"planner, {figures.solved_clusters} clusters of {FEW + 1} to {EXACT} tensors: {over_exact(figures):.5f} of"
        f" the exact optimum, the worst {figures.worstover_exact:.4f}"
    )
    console.print(
        f"rebased {figures.moved_nbytes / figures.raw_nbytes:.3f} of the raw bytes;"
        f" planned in {figures.planning_s / figures.tensors * 1e6:.0f} us a tensor,"
        f" the online rule took {figures.online_s / figures.tensors * 1e6:.0f} us"
    )


def over_exact(figures: Figures) -> float:
    return figures.found_nbytes / figures.exact_nbytes if figures.exact_nbytes else 1.0
