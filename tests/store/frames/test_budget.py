"""One limit for all who keep bytes; who keeps more than its floor gives way first."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

import pytest

from zipfs.store.frames.budget import Budget


@dataclass(slots=True, eq=False)
class Kept:
    """A share that keeps things of given sizes, and drops the first first."""

    floor_nbytes: int
    sizes: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nbytes(self) -> int:
        return sum(self.sizes)

    def keep(self, nbytes: int) -> None:
        with self.lock:
            self.sizes.append(nbytes)

    def drop_one(self) -> bool:
        with self.lock:
            if not self.sizes:
                return False
            del self.sizes[0]
            return True


def budget_of(nbytes: int, *shares: Kept) -> Budget:
    budget = Budget(nbytes)
    for share in shares:
        budget.join(share)
    return budget


def test_nothing_gives_way_as_long_as_there_is_room() -> None:
    one, other = Kept(50, [10, 30]), Kept(50, [20])
    budget = budget_of(100, one, other)
    budget.make_room(40)
    assert (one.sizes, other.sizes, budget.used_nbytes) == ([10, 30], [20], 60)


def test_who_is_above_its_floor_gives_way_first() -> None:
    above, below = Kept(20, [10, 10, 10, 30]), Kept(50, [40])
    budget_of(100, above, below).make_room(30)
    assert (above.sizes, below.sizes) == ([30], [40])


def test_all_give_way_where_nobody_is_above_its_floor() -> None:
    one, other = Kept(50, [30]), Kept(50, [40])
    budget = budget_of(100, one, other)
    budget.make_room(60)
    assert budget.used_nbytes <= 40


def test_more_than_there_is_takes_everything_and_comes_to_an_end() -> None:
    one, other = Kept(50, [30, 5]), Kept(50, [40])
    budget_of(100, one, other).make_room(101)
    assert (one.sizes, other.sizes) == ([], [])


def test_who_has_nothing_to_drop_does_not_keep_others_from_it() -> None:
    """What it keeps may be in use."""

    class Stuck(Kept):
        def drop_one(self) -> bool:
            return False

    stuck, other = Stuck(10, [60]), Kept(90, [20, 20])
    budget = budget_of(100, stuck, other)
    budget.make_room(20)
    assert budget.used_nbytes <= 80


def test_who_has_left_is_not_asked() -> None:
    one, other = Kept(0, [60]), Kept(0, [60])
    budget = budget_of(100, one)
    budget.join(other)
    budget.leave(one)
    budget.make_room(40)
    assert (one.sizes, other.sizes, budget.used_nbytes) == ([60], [60], 60)


@pytest.mark.parametrize("nbytes", [0, 50, 1000])
def test_the_limit_is_kept_by_many_threads(nbytes: int) -> None:
    shares = [Kept(nbytes // 4), Kept(nbytes - nbytes // 4)]
    budget = budget_of(nbytes, *shares)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(500):
            budget.make_room(size := chance.randrange(1, 60))
            chance.choice(shares).keep(size)
            budget.make_room(0)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.used_nbytes <= nbytes
