"""The policy keeps to its budget whatever is asked for, keeps what comes back, and is hardly ever worse than LRU."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.benchmarks.simulate.cache.policies import Lru, Policy
from tools.benchmarks.simulate.cache.traces import TRACES, Run, Trace, interleave, make_trace
from zipfs.store.frames.policy import FramePolicy, Key

MIB = 1 << 20


class Cache:
    """Frames in memory as `policy` wants it, and how often one was there."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.kept: dict[Key, int] = {}
        self.hits = self.asked = 0

    def ask(self, key: Key, nbytes: int = MIB) -> bool:
        self.asked += 1
        if key in self.kept:
            self.policy.used(key)
            self.hits += 1
            return True
        self.kept[key] = nbytes
        for victim in self.policy.admit(key, nbytes):
            del self.kept[victim]
        return False

    def load(self, blob_id: int, frames: int) -> int:
        """Ask for all frames of a blob in order; how many were there."""
        return sum(self.ask((blob_id, number)) for number in range(frames))


class Plain:
    """The policy once more, in the plainest way: each list has the key that was used last at its end."""

    def __init__(self, budget_nbytes: int, recent_nbytes: int, history_frames: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.recent_nbytes = recent_nbytes
        self.history_frames = history_frames
        self.share = 0
        self.now = 0
        self.sizes: dict[Key, int] = {}
        self.last_use: dict[Key, int] = {}
        self.recent: list[Key] = []
        self.kept: list[Key] = []
        self.lru: list[Key] = []
        self.history: dict[int, Key] = {}

    def total(self, keys: Iterable[Key]) -> int:
        return sum(self.sizes[key] for key in keys)

    def least_share(self) -> int:
        return min(self.recent_nbytes, self.budget_nbytes // 8)

    def set_budget(self, nbytes: int) -> None:
        self.budget_nbytes = nbytes
        self.share = max(self.least_share(), min(self.share, nbytes))

    def lru_had(self, key: Key) -> bool:
        had = key in self.lru
        if had:
            self.lru.remove(key)
        self.lru.append(key)
        while not had and self.total(self.lru) > self.budget_nbytes:
            del self.lru[0]
        return had

    def used(self, key: Key) -> None:
        self.now += 1
        self.last_use[key] = self.now
        keys = self.kept if key in self.kept else self.recent
        keys.remove(key)
        keys.append(key)
        if not self.lru_had(key) and keys is self.kept:
            self.share = max(self.least_share(), self.share - self.sizes[key])

    def drop(self, keys: list[Key]) -> Key:
        key = keys.pop(0)
        self.history[hash(key) % self.history_frames] = key
        return key

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        self.sizes[key] = nbytes
        self.now += 1
        if self.lru_had(key):
            self.share = min(self.budget_nbytes, self.share + nbytes)
        known = self.history.get(hash(key) % self.history_frames) == key
        previous_use = self.last_use[key] if known else 0
        self.last_use[key] = self.now
        room = self.budget_nbytes - self.share - nbytes
        dropped = []
        while room >= 0 and self.total(self.kept) > room and self.last_use[self.kept[0]] < previous_use:
            dropped.append(self.drop(self.kept))
        (self.kept if self.total(self.kept) <= room else self.recent).append(key)
        while self.total(self.recent) > self.share:
            dropped.append(self.drop(self.recent))
        while self.total(self.kept) + self.total(self.recent) > self.budget_nbytes:
            dropped.append(self.drop(self.kept or self.recent))
        return dropped

    def drop_one(self) -> Key | None:
        keys = self.recent or self.kept
        return self.drop(keys) if keys else None


def size_of(number: int) -> int:
    return 1 + number % 3


def steps(rng: random.Random) -> Iterator[tuple[str, int]]:
    """What is asked for: mostly a few frames again and again, and now and then a scan of many."""
    for _ in range(300):
        match rng.randrange(30):
            case 0:
                yield "budget", rng.randint(0, 60)
            case 1:
                yield "drop", rng.randint(1, 4)
            case 2:
                first = rng.randrange(60)
                yield from (("ask", number) for number in range(first, first + rng.randrange(40)))
            case _:
                yield "ask", rng.randrange(14)


@given(st.integers(0, 60), st.integers(0, 7), st.sampled_from([1, 16, 1 << 10]), st.integers(0, 1 << 32))
def test_it_does_what_the_plainest_policy_does(budget: int, recent: int, history: int, seed: int) -> None:
    policy, plain = FramePolicy(budget, recent, history), Plain(budget, recent, history)
    plain.set_budget(budget)
    kept: set[Key] = set()
    for step, number in steps(random.Random(seed)):
        key = number % 2, number
        if step == "budget":
            policy.budget_nbytes = number
            plain.set_budget(number)
        elif step == "drop":
            for _ in range(number):
                victim = policy.drop_one()
                assert victim == plain.drop_one()
                assert (victim is None) == (not kept)
                kept -= {victim}
        elif key in kept:
            policy.used(key)
            plain.used(key)
        else:
            dropped = policy.admit(key, size_of(number))
            assert dropped == plain.admit(key, size_of(number))
            kept = (kept | {key}) - set(dropped)
            assert policy.nbytes <= policy.budget_nbytes
        assert kept == {*plain.kept, *plain.recent}
        assert policy.nbytes == sum(size_of(number) for _, number in kept)


def test_of_a_model_read_over_and_over_as_much_stays_as_there_is_room_for() -> None:
    cache = Cache(FramePolicy(512 * MIB))
    cache.load(1, 2048)
    for _ in range(5):
        assert cache.load(1, 2048) == 512 - 16


def test_a_model_that_fits_is_decoded_once() -> None:
    cache = Cache(FramePolicy(512 * MIB))
    cache.load(1, 400)
    assert cache.load(1, 400) == 400


def test_a_scan_takes_nothing_from_what_comes_back() -> None:
    cache = Cache(FramePolicy(512 * MIB))
    cache.load(1, 400)
    cache.load(2, 5000)
    assert cache.load(1, 400) == 400


def test_what_is_not_read_any_more_gives_way() -> None:
    cache = Cache(FramePolicy(512 * MIB))
    for _ in range(10):
        cache.load(1, 2048)
    for _ in range(2):
        cache.load(2, 2048)
    assert cache.load(2, 2048) == 512 - 16


def test_readers_a_little_apart_share_what_is_decoded() -> None:
    cache = Cache(FramePolicy(512 * MIB))
    cache.load(1, 2048)
    for _ in range(2):
        cache.load(2, 2048)
    frames = [(3, number) for number in range(2048)]
    lags = [4 * reader for reader in range(8)]
    for key in interleave([frames] * 8, lags, random.Random(1)):
        cache.ask(key)
    assert cache.hits > 0.98 * 7 * 2048


def test_room_made_before_a_frame_is_decoded_costs_nothing() -> None:
    """Who has to drop something first must not drop what comes back."""
    policy = FramePolicy(512 * MIB)
    cache = Cache(policy)
    for round_number in range(4):
        before = cache.hits
        for number in range(2048):
            if (1, number) not in cache.kept:
                while policy.nbytes + MIB > policy.budget_nbytes:
                    victim = policy.drop_one()
                    assert victim is not None
                    del cache.kept[victim]
            cache.ask((1, number))
        assert not round_number or cache.hits - before == 512 - 16


def test_a_frame_larger_than_the_budget_is_not_kept_and_drops_nothing_that_is() -> None:
    cache = Cache(FramePolicy(8 * MIB))
    cache.load(1, 4)
    for _ in range(3):
        cache.ask((2, 0), 9 * MIB)
        assert cache.load(1, 4) == 4


def test_admitting_a_frame_that_is_there_counts_as_a_use() -> None:
    policy = FramePolicy(4)
    policy.admit((1, 1), 2)
    assert policy.admit((1, 1), 2) == []
    assert policy.nbytes == 2


def test_using_a_frame_that_is_not_there_changes_nothing() -> None:
    policy = FramePolicy(4)
    policy.used((1, 1))
    assert policy.nbytes == 0
    assert policy.drop_one() is None


@pytest.mark.slow
def test_what_is_remembered_is_bounded() -> None:
    cache = Cache(FramePolicy(64 * MIB, history_frames=1 << 10))
    tracemalloc.start()
    try:
        cache.load(1, 2_000)
        before, _ = tracemalloc.get_traced_memory()
        cache.load(2, 20_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 64 << 10


def test_the_frames_that_lru_would_have_are_bounded_however_small_they_are() -> None:
    policy = FramePolicy(MIB)
    for number in range(70_000):
        policy.admit((1, number), 1)
    assert len(policy._lru) == 65_536


FAMILIES = [
    [[Run(100 * family + tensor, 0, nbytes) for tensor, nbytes in enumerate((mib * MIB // 8, mib * MIB // 2, 9000))]]
    for family, mib in enumerate((12, 25, 40, 60, 90, 140, 260), start=1)
]


def rate(policy: Policy, trace: Trace) -> float:
    cache = Cache(policy)
    for key in trace.accesses:
        cache.ask(key, trace.nbytes[key])
    return cache.hits / cache.asked


@pytest.mark.slow
@pytest.mark.parametrize("budget_mib", [16, 64, 256])
@pytest.mark.parametrize("trace", TRACES)
def test_it_is_at_least_as_good_as_lru(budget_mib: int, trace: str) -> None:
    """But for what it takes to find out that LRU is best."""
    replayed = make_trace(trace, FAMILIES, MIB, 20_000, seed=0)
    ours = rate(FramePolicy(budget_mib * MIB, MIB), replayed)
    assert ours >= rate(Lru(budget_mib * MIB), replayed) - 0.01
