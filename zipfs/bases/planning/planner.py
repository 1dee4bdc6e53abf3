"""Owns the plan: which tensors of a cluster are to be bases, and what each of the others is to be coded against.

A cluster holds tensors of one dtype and length that may be related.  Choosing is a facility location problem: a base is
coded standalone, which is its price; whoever hangs on it pays the predicted size.  Three more things count: reading a
member means reading its base as well, a base that is used wants to stay in a cache, and re-encoding moves bytes.  Pure;
any thread may call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.planning.facility_location import STANDALONE, Problem, solve
from zipfs.bases.similarity.base_choice import BaseChoice, Reason
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, BlobId

Costs = NDArray[np.float64]

_PREDICTION_BENT_AT_MOST: Final = 1.5
"""What a tensor really takes, over its prediction, scales its other predictions; no further than this."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What counts beside stored bytes, in stored bytes."""

    member: float = 0.05
    """Of what a member takes standalone, for reading two blobs where one would do."""
    base: float = 0.02
    """Of the raw bytes of a base with members, for keeping it cached."""
    moved: float = 0.005
    """Of the raw bytes of a tensor that is rebased: a byte saved is worth coding 200."""
    run: float = 0.001
    """Of what all tensors take: less than that is not worth the holes that the old forms leave in their packs."""


DEFAULT_PRICES: Final = Prices()


OUTSIDE: Final = 0
"""Stands for a base that is not in the cluster, or of which only a part is one."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A stored tensor and what it is coded against now; any blob that is not in the cluster counts as OUTSIDE.

    `needed` unless no file holds it any more: then it is there for those coded against it alone. `pinned` if something
    outside of the cluster is coded against it, so that it has to stay coded standalone.
    """

    blob_id: int
    stored_nbytes: int
    base_id: int | None
    needed: bool = True
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """Tensors of `nbytes` raw bytes each, and predicted stored sizes in bytes.

    `standalone` is float64 of (tensors,); `against` of (tensors, candidates), infinite where it cannot be; `candidates`
    are the indices of the tensors that may be bases, among them each that is one now.
    """

    nbytes: int
    tensors: tuple[Tensor, ...]
    candidates: tuple[int, ...]
    standalone: Costs
    against: Costs


@dataclass(frozen=True, slots=True)
class RebaseStep:
    """A stored blob to be rebased as `choice` says; its sizes are the raw one, that of now, the predicted one."""

    blob_id: BlobId
    choice: BaseChoice
    nbytes: int
    stored_nbytes: int
    predicted_nbytes: int

    @property
    def base_id(self) -> BlobId | None:
        return None if self.choice.base is None else self.choice.base.blob_id

    def as_text(self) -> str:
        sizes = f"{self.stored_nbytes} bytes now, {self.predicted_nbytes} predicted"
        return f"rebase blob {self.blob_id} {self.choice.as_text()}, {sizes}"


@dataclass(frozen=True, slots=True)
class RebasePlan:
    """Steps in an order that keeps every base coded standalone, whatever the one after which they stop.

    `before_nbytes` is what the cluster takes now, `after_nbytes` what it is predicted to take, once what is no longer
    needed is collected.
    """

    steps: tuple[RebaseStep, ...]
    before_nbytes: int
    after_nbytes: int

    def as_text(self) -> str:
        """Return a line for each step."""
        return "".join(f"{step.as_text()}\n" for step in self.steps)

    @property
    def gain_nbytes(self) -> int:
        return self.before_nbytes - self.after_nbytes

    @property
    def moved_nbytes(self) -> int:
        """Return raw bytes to read and to code."""
        return sum(step.nbytes for step in self.steps)

    @property
    def gain_per_byte(self) -> float:
        return self.gain_nbytes / self.moved_nbytes if self.steps else 0.0


def plan(cluster: Cluster, prices: Prices = DEFAULT_PRICES) -> RebasePlan:
    """Return the assignment that makes the cluster cheapest, as steps away from the present one."""
    view = _View(cluster)
    solution = _solve(view, prices)
    return _as_plan(view, solution)


class _View:
    """A cluster with its present assignment as indices, and predictions bent to what is known of the present sizes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        tensors = cluster.tensors
        column = {tensors[index].blob_id: at for at, index in enumerate(cluster.candidates)}
        self.own = np.array(cluster.candidates, np.intp)
        self.base = np.array(
            [STANDALONE if t.base_id is None else column.get(t.base_id, STANDALONE) for t in tensors], np.intp
        )
        self.stored = np.array([t.stored_nbytes for t in tensors], np.float64)
        self.needed = np.array([t.needed for t in tensors], bool)
        self.pinned = np.array([t.pinned for t in tensors], bool)
        self.stays = self.base == STANDALONE
        """Whether STANDALONE means what it is now: coded standalone, or against something outside of the cluster."""
        self.is_standalone = np.array([t.base_id is None for t in tensors], bool)
        self.used = np.unique(self.base[~self.stays & self.needed])
        """Candidates that are bases of something needed now."""
        rows = np.arange(len(tensors))
        members = rows[~self.stays]
        self.standalone = np.where(self.stays, self.stored, cluster.standalone)
        """What STANDALONE takes."""
        self.as_base = np.where(self.is_standalone, self.stored, cluster.standalone)
        predicted = cluster.against[members, self.base[members]]
        bend = np.clip(self.stored[members] / predicted, 1 / _PREDICTION_BENT_AT_MOST, _PREDICTION_BENT_AT_MOST)
        self.against = cluster.against.copy()
        self.against[members] *= bend[:, None]
        self.against[members, self.base[members]] = self.stored[members]

    def costs(self, served_by: NDArray[np.intp]) -> Costs:
        """Return stored bytes of each tensor; 0 for one that is not needed and serves nobody."""
        rows = np.arange(len(served_by))
        serving = self.serving(served_by)
        apart = np.where(serving, self.as_base, self.standalone)
        stored = np.where(served_by == STANDALONE, apart, self.against[rows, np.maximum(served_by, 0)])
        return np.where(self.needed | serving | self.pinned, stored, 0.0)

    def serving(self, served_by: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which tensors are bases of something needed."""
        serving = np.zeros(len(served_by), bool)
        serving[self.own[np.unique(served_by[(served_by != STANDALONE) & self.needed])]] = True
        return serving


def _solve(view: _View, prices: Prices) -> NDArray[np.intp]:
    """Return for each tensor the column of its base, or STANDALONE."""
    nbytes = view.cluster.nbytes
    move = prices.moved * nbytes
    own = view.own
    standalone = np.where(view.needed, view.standalone + np.where(view.stays, 0.0, move), 0.0)
    opening = view.as_base[own] + np.where(view.is_standalone[own], 0.0, move) + prices.base * nbytes
    opening[view.pinned[own]] = 0.0
    serve = view.against + prices.member * view.as_base[:, None] + move
    members = np.flatnonzero(~view.stays)
    serve[members, view.base[members]] -= move
    serve[~view.needed] = 0.0
    serve[view.pinned] = np.inf
    serve[own, np.arange(len(own))] = 0.0
    served_by = solve(Problem(standalone, serve, opening), view.used).served_by.copy()
    served_by[own[served_by[own] == np.arange(len(own))]] = STANDALONE  # an open facility serves itself
    idle = ~view.needed & ~view.serving(served_by)
    served_by[idle] = view.base[idle]
    return served_by


def _as_plan(view: _View, served_by: NDArray[np.intp]) -> RebasePlan:
    cluster = view.cluster
    before, after = view.costs(view.base), view.costs(served_by)
    total_nbytes = round(float(before.sum()))
    ids = [tensor.blob_id for tensor in cluster.tensors]
    serving = view.serving(served_by)
    opened = serving & ~view.is_standalone
    changed = np.flatnonzero((served_by != view.base) & (view.needed | opened) | opened)
    if not len(changed):
        return RebasePlan((), total_nbytes, total_nbytes)
    was_base = view.serving(view.base)

    def rank(index: int) -> tuple[int, int]:
        """Have new bases be coded first, and old ones become members when nothing hangs on them any more."""
        return (0 if served_by[index] == STANDALONE else 2 if was_base[index] else 1), ids[index]

    steps = tuple(
        RebaseStep(
            BlobId(ids[index]),
            _choice(None if served_by[index] == STANDALONE else ids[view.own[served_by[index]]], cluster.nbytes),
            cluster.nbytes,
            cluster.tensors[index].stored_nbytes,
            round(float(after[index])),
        )
        for index in sorted(changed.tolist(), key=rank)
    )
    return RebasePlan(steps, total_nbytes, round(float(after.sum())))


def _choice(base_id: int | None, nbytes: int) -> BaseChoice:
    return BaseChoice(None if base_id is None else BaseRef(BlobId(base_id), View(0, nbytes)), Reason.PLANNED)


def in_order_of_gain(plans: Sequence[RebasePlan], least_gain_per_byte: float = 0.0) -> list[RebasePlan]:
    """Return plans that move something and gain by it, those first that gain most for each byte moved."""
    worth = [one for one in plans if one.gain_nbytes > 0 and one.gain_per_byte >= least_gain_per_byte]
    return sorted(worth, key=lambda one: -one.gain_per_byte)
