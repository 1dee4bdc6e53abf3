"""Owns the solver of the facility location problem that choosing bases is.  Pure; any thread may call.

Each client is coded standalone, or served by an open facility; opening one has its price.  With few facilities every
set of them is tried.  With more, the steps of the local search (open, close, swap) are those of V. Arya et al.,
Local Search Heuristics for k-Median and Facility Location Problems, 2004, which bounds the result at three times
the optimum; `tools/bench bases` prints how near the optimum it comes here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.float64]

STANDALONE: Final = -1
_ALL_SETS_OF: Final = 10
"""Facilities of which every set is tried: 1,024 sets take less time than a search."""
_LEAST_GAIN: Final = 1e-9
"""Of the total: what gains less is rounding."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`standalone` (clients,), `serve` (clients, facilities) and `opening` (facilities,), in one unit, none
    negative.
    """

    standalone: Costs
    serve: Costs
    opening: Costs


@dataclass(frozen=True, slots=True)
class Solution:
    """For each client the facility that serves it, or STANDALONE; and the total with the openings."""

    served_by: NDArray[np.intp]
    total: float


def solve(problem: Problem, start: NDArray[np.intp]) -> Solution:
    """Return the cheapest set of few facilities; of more, the best of three searches: from none, from `start`, from
    all.
    """
    facilities = len(problem.opening)
    if facilities <= _ALL_SETS_OF:
        return _solution(problem, _best_set(problem))
    starts = [np.empty(0, np.intp), start, np.arange(facilities)]
    return min((_search(problem, one) for one in starts), key=lambda solution: solution.total)


def _best_set(problem: Problem) -> NDArray[np.bool_]:
    costs: Costs = problem.standalone[None, :]
    totals: Costs = np.zeros(1)
    for facility, opening in enumerate(problem.opening):
        costs = np.concatenate([costs, np.minimum(costs, problem.serve[:, facility])])
        totals = np.concatenate([totals, totals + opening])
    best = int((costs.sum(axis=1) + totals).argmin())
    is_open: NDArray[np.bool_] = best >> np.arange(len(problem.opening)) & 1 == 1
    return is_open


def _solution(problem: Problem, is_open: NDArray[np.bool_]) -> Solution:
    state = _State(problem, is_open)
    return Solution(state.served_by, float(state.cost.sum() + problem.opening[is_open].sum()))


def _search(problem: Problem, start: NDArray[np.intp]) -> Solution:
    """Open, close and swap as long as that gains; each step takes O(clients x facilities)."""
    facilities = len(problem.opening)
    is_open = np.zeros(facilities, bool)
    is_open[start] = True
    least = _LEAST_GAIN * float(problem.standalone.sum())
    # Each step gains more than `least`; the bound only guards against a cycle of roundings.
    for _ in range(4 * facilities + 8):
        state = _State(problem, is_open)
        gain, opened, closed = max(state.best_closing(), state.best_opening())
        if gain <= least:
            gain, opened, closed = state.best_swap()
        if gain <= least:
            break
        if opened >= 0:
            is_open[opened] = True
        if closed >= 0:
            is_open[closed] = False
    return _solution(problem, is_open)


Step = tuple[float, int, int]
"""Gain, facility to open or -1, facility to close or -1."""

_NO_STEP: Final[Step] = (0.0, -1, -1)


class _State:
    """What each client pays with a set of open facilities, and would pay without its own one."""

    def __init__(self, problem: Problem, is_open: NDArray[np.bool_]) -> None:
        self._problem = problem
        self._open = np.flatnonzero(is_open)
        self._closed = np.flatnonzero(~is_open)
        clients = len(problem.standalone)
        # Column 0 is coding standalone, the others are the open facilities.
        costs = np.concatenate([problem.standalone[:, None], problem.serve[:, self._open]], axis=1)
        self._slot = costs.argmin(axis=1)
        rows = np.arange(clients)
        self.cost: Costs = costs[rows, self._slot]
        self.served_by: NDArray[np.intp] = np.concatenate([[STANDALONE], self._open])[self._slot]
        costs[rows, self._slot] = np.inf
        costs[:, 0] = problem.standalone
        self._second: Costs = costs.min(axis=1)

    def best_opening(self) -> Step:
        if not len(self._closed):
            return _NO_STEP
        saved = np.maximum(self.cost[:, None] - self._problem.serve[:, self._closed], 0.0).sum(axis=0)
        gains = saved - self._problem.opening[self._closed]
        best = int(gains.argmax())
        return float(gains[best]), int(self._closed[best]), -1

    def best_closing(self) -> Step:
        if not len(self._open):
            return _NO_STEP
        loss = self._sum_by_slot(self._second - self.cost)
        gains = self._problem.opening[self._open] - loss
        best = int(gains.argmax())
        return float(gains[best]), -1, int(self._open[best])

    def _sum_by_slot(self, values: Costs) -> Costs:
        sums = np.bincount(self._slot, weights=values, minlength=len(self._open) + 1)
        return sums[1:].astype(np.float64)

    def best_swap(self) -> Step:
        """Return the best swap of a closed facility for an open one, of all pairs."""
        best = _NO_STEP
        if not len(self._open):
            return best
        for facility in self._closed:
            serve = self._problem.serve[:, facility]
            nearer = serve < self.cost
            saved = float((self.cost - serve)[nearer].sum()) - float(self._problem.opening[facility])
            loss = self._sum_by_slot(np.where(nearer, 0.0, np.minimum(serve, self._second) - self.cost))
            gains = saved + self._problem.opening[self._open] - loss
            at = int(gains.argmax())
            best = max(best, (float(gains[at]), int(facility), int(self._open[at])))
        return best
