"""The plan is near the best there is, keeps every base standalone at any moment, and nothing makes it fail."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipfs.bases.planning.facility_location import STANDALONE, Problem, solve
from zipfs.bases.planning.planner import Cluster, Prices, RebasePlan, Tensor, in_order_of_gain, plan

FREE = Prices(member=0.0, base=0.0, moved=0.0)
NBYTES = 1000


def _star(members: int, *, hub: int, at_hub: float = 100.0, elsewhere: float = 180.0) -> Cluster:
    """Tensors that are all coded against the first one, though against `hub` they would be smaller."""
    against = np.full((members, members), elsewhere)
    against[:, hub] = at_hub
    against[hub] = at_hub
    tensors = tuple(
        Tensor(n + 1, 650 if n == 0 else round(against[n, 0]), None if n == 0 else 1) for n in range(members)
    )
    return Cluster(NBYTES, tensors, tuple(range(members)), np.full(members, 650.0), against)


def _bases_after(cluster: Cluster, found: RebasePlan, count: int) -> dict[int, int | None]:
    bases = {tensor.blob_id: tensor.base_id for tensor in cluster.tensors}
    bases |= {step.blob_id: step.base_id for step in found.steps[:count]}
    return bases


def test_a_better_hub_takes_over() -> None:
    cluster = _star(20, hub=7)
    found = plan(cluster)
    bases = _bases_after(cluster, found, len(found.steps))
    assert bases == {n: None if n == 8 else 8 for n in range(1, 21)}
    assert found.before_nbytes == 650 + 100 + 18 * 180
    assert found.after_nbytes == 650 + 19 * 100
    assert found.moved_nbytes == 20 * NBYTES


def test_a_plan_that_was_carried_out_leaves_nothing_to_move() -> None:
    cluster = _star(20, hub=0)
    assert plan(cluster).steps == ()
    assert plan(cluster).before_nbytes == plan(cluster).after_nbytes


def test_what_saves_too_little_for_the_bytes_moved_stays() -> None:
    cluster = _star(20, hub=7, at_hub=100.0, elsewhere=102.0)
    assert plan(cluster).steps == ()
    assert plan(cluster, FREE).steps != ()


def test_two_families_in_one_cluster_get_two_bases() -> None:
    against = np.full((8, 8), 600.0)
    against[:4, :4] = against[4:, 4:] = 100.0
    cluster = Cluster(
        NBYTES, tuple(Tensor(n, 650, None) for n in range(8)), tuple(range(8)), np.full(8, 650.0), against
    )
    found = plan(cluster)
    assert found.after_nbytes == 2 * (650 + 3 * 100)
    assert {step.base_id for step in found.steps} <= set(range(8))
    assert len(found.steps) == 6


def test_unrelated_tensors_stay_standalone() -> None:
    against = np.full((5, 5), 655.0)
    tensors = tuple(Tensor(n, 650, None) for n in range(5))
    assert plan(Cluster(NBYTES, tensors, tuple(range(5)), np.full(5, 650.0), against)).steps == ()


def test_a_base_that_nothing_needs_gives_way_to_one_of_its_members() -> None:
    against = np.full((4, 4), 100.0)
    tensors = (Tensor(1, 650, None, needed=False), *(Tensor(n, 100, 1) for n in (2, 3, 4)))
    cluster = Cluster(NBYTES, tensors, (0, 1, 2, 3), np.full(4, 650.0), against)
    found = plan(cluster)
    assert found.before_nbytes == 650 + 300
    assert found.after_nbytes == 650 + 200
    assert all(step.blob_id != 1 and step.base_id != 1 for step in found.steps)


def test_a_base_of_something_outside_stays_one() -> None:
    star = _star(20, hub=7)
    pinned = Tensor(1, 650, None, pinned=True)
    cluster = Cluster(NBYTES, (pinned, *star.tensors[1:]), star.candidates, star.standalone, star.against)
    found = plan(cluster)
    assert all(step.blob_id != 1 for step in found.steps)
    assert _bases_after(cluster, found, len(found.steps))[2] == 8


def test_what_hangs_on_something_outside_moves_only_for_less() -> None:
    against = np.full((3, 3), 100.0)
    tensors = (Tensor(1, 650, None), Tensor(2, 90, 77), Tensor(3, 300, 77))
    found = plan(Cluster(NBYTES, tensors, (0, 1, 2), np.full(3, 650.0), against))
    assert found.as_text() == (
        f"rebase blob 3 against blob 1 0+{NBYTES}: makes its cluster smallest, 300 bytes now, 100 predicted\n"
    )
    assert found.before_nbytes == 650 + 90 + 300
    assert found.after_nbytes == 650 + 90 + 100


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any present state in which every base is standalone, with sizes of any kind."""
    count = draw(st.integers(1, 7))
    size = st.integers(1, NBYTES)
    standalone = [draw(size) for _ in range(count)]
    roots = draw(st.sets(st.integers(0, count - 1), min_size=1))
    tensors = []
    for n in range(count):
        outside = draw(st.booleans()) and n not in roots
        base = None if n in roots else 99 if outside else 1 + draw(st.sampled_from(sorted(roots)))
        pinned = n in roots and draw(st.booleans())
        tensors.append(Tensor(n + 1, draw(size), base, draw(st.booleans()), pinned))
    against = np.array([[draw(size) for _ in range(count)] for _ in range(count)], np.float64)
    return Cluster(NBYTES, tuple(tensors), tuple(range(count)), np.array(standalone, np.float64), against)


@settings(deadline=None, max_examples=300)
@given(cluster=clusters(), prices=st.sampled_from([FREE, Prices(), Prices(member=0.5, base=0.5, moved=0.5)]))
def test_every_base_is_coded_standalone_after_each_step(cluster: Cluster, prices: Prices) -> None:
    found = plan(cluster, prices)
    dead = {tensor.blob_id for tensor in cluster.tensors if not tensor.needed}
    for steps in range(len(found.steps) + 1):
        bases = _bases_after(cluster, found, steps)
        for blob_id, base_id in bases.items():
            if base_id is not None and blob_id not in dead:
                assert bases.get(base_id) is None
    moved = {step.blob_id for step in found.steps}
    assert len(moved) == len(found.steps)
    for tensor in cluster.tensors:
        assert not (tensor.pinned and tensor.blob_id in moved)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(cluster=clusters())
def test_carrying_a_plan_out_never_makes_the_cluster_dearer(cluster: Cluster) -> None:
    assert plan(cluster, FREE).gain_nbytes >= -len(cluster.tensors)  # a byte of rounding each


def _best_total(problem: Problem) -> float:
    """By trying every set of open facilities."""
    facilities = len(problem.opening)
    totals = []
    for count in range(facilities + 1):
        for opened in map(list, itertools.combinations(range(facilities), count)):
            costs = np.concatenate([problem.standalone[:, None], problem.serve[:, opened]], axis=1)
            totals.append(float(costs.min(axis=1).sum() + problem.opening[opened].sum()))
    return min(totals)


def _stars(seed: int, count: int) -> Problem:
    """Clients around some hubs, each of them a facility: what it takes to serve one grows with the distance."""
    rng = np.random.default_rng(seed)
    hubs = rng.normal(0, 2, (max(1, count // 5), 3))
    places = hubs[rng.integers(0, len(hubs), count)] + rng.normal(0, rng.uniform(0.05, 0.6), (count, 3))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    standalone = rng.uniform(640, 660, count)
    problem = Problem(standalone, 20.0 + 240.0 * apart, standalone.copy())
    problem.serve[np.diag_indices(count)] = 0.0
    return problem


@pytest.mark.parametrize("count", [1, 3, 9, 13])
def test_the_search_comes_within_a_hundredth_of_the_best(count: int) -> None:
    for seed in range(6):
        problem = _stars(seed, count)
        found = solve(problem, np.arange(count // 2))
        assert found.total <= 1.01 * _best_total(problem)
        used = np.unique(found.served_by[found.served_by != STANDALONE])
        costs = np.where(
            found.served_by == STANDALONE, problem.standalone, problem.serve[np.arange(count), found.served_by]
        )
        assert found.total == pytest.approx(costs.sum() + problem.opening[used].sum())


def test_no_clients_cost_nothing() -> None:
    assert solve(Problem(np.empty(0), np.empty((0, 0)), np.empty(0)), np.empty(0, np.intp)).total == 0.0


def test_plans_are_ordered_by_what_they_save_for_each_byte_moved() -> None:
    poor, good, none = plan(_star(20, hub=7, elsewhere=120.0)), plan(_star(20, hub=7)), plan(_star(5, hub=0))
    assert in_order_of_gain([none, poor, good]) == [good, poor]
    assert in_order_of_gain([none, poor, good], good.gain_per_byte) == [good]
