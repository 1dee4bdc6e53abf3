"""Cache policies that go by what they remember, to compare with `zipfs.store.frames.policy`; the optimum; all by name.

Each is written from the paper that it names, in bytes instead of pages. None of them is part of the product.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from tools.benchmarks.simulate.cache.policies import (
    Arc,
    Fifo,
    Lru,
    Policy,
    Queue,
    RandomChoice,
    S3Fifo,
    Sieve,
    TwoQueues,
)
from zipfs.store.frames.policy import Key


class Lfu:
    """Least frequently used, with every frame's count since the beginning; the oldest of those used least."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.nbytes = 0
        self.sizes: dict[Key, int] = {}
        self.counts: dict[Key, int] = {}
        self.heap: list[tuple[int, int, Key]] = []
        self.clock = 0

    def used(self, key: Key) -> None:
        self.counts[key] = self.counts.get(key, 0) + 1
        self.clock += 1
        heapq.heappush(self.heap, (self.counts[key], self.clock, key))

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        self.sizes[key] = nbytes
        self.nbytes += nbytes
        dropped = []
        self.used(key)
        while self.nbytes > self.budget_nbytes:
            count, _, victim = heapq.heappop(self.heap)
            if victim in self.sizes and self.counts[victim] == count:
                self.nbytes -= self.sizes.pop(victim)
                dropped.append(victim)
        return dropped


class Lirs:
    """LIRS (Jiang and Zhang, 2002): 1% for what is new; the history is five times as long as the cache."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.low_budget = budget_nbytes - max(1 << 20, budget_nbytes // 100)
        self.stack: OrderedDict[Key, None] = OrderedDict()
        self.sizes: dict[Key, int] = {}
        self.low: set[Key] = set()
        self.low_nbytes = 0
        self.high = Queue()
        self.ghosts = Queue()

    def used(self, key: Key) -> None:
        if key in self.low:
            self.stack.move_to_end(key)
            self._prune()
        elif key in self.stack:
            self.stack.move_to_end(key)
            self._make_low(key, self.high.remove(key))
        else:
            self.stack[key] = None
            self.high.touch(key)

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        if key in self.ghosts:
            self.ghosts.remove(key)
        self.sizes[key] = nbytes
        known = key in self.stack
        self.stack[key] = None
        self.stack.move_to_end(key)
        if known or self.low_nbytes + nbytes <= self.low_budget:
            self._make_low(key, nbytes)
        else:
            self.high.push(key, nbytes)
        dropped = []
        while self.low_nbytes + self.high.nbytes > self.budget_nbytes:
            victim, victim_nbytes = self.high.pop()
            del self.sizes[victim]
            dropped.append(victim)
            if victim in self.stack:
                self.ghosts.push(victim, victim_nbytes)
        while self.ghosts.nbytes > 5 * self.budget_nbytes:
            ghost, _ = self.ghosts.pop()
            self.stack.pop(ghost, None)
        return dropped

    def _make_low(self, key: Key, nbytes: int) -> None:
        self.low.add(key)
        self.low_nbytes += nbytes
        while self.low_nbytes > self.low_budget:
            self._prune()
            bottom, _ = self.stack.popitem(last=False)
            self.low.remove(bottom)
            self.low_nbytes -= self.sizes[bottom]
            self.high.push(bottom, self.sizes[bottom])
        self._prune()

    def _prune(self) -> None:
        while self.stack:
            bottom = next(iter(self.stack))
            if bottom in self.low:
                return
            del self.stack[bottom]
            if bottom in self.ghosts:
                self.ghosts.remove(bottom)


class TinyLfu:
    """W-TinyLFU (Einziger, Friedman and Manes, 2017), with exact counts that are halved after ten cachefuls.

    1% window; four fifths of the rest protected.
    """

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.window_budget = max(1 << 20, budget_nbytes // 100)
        self.main_budget = budget_nbytes - self.window_budget
        self.window, self.probation, self.protected = Queue(), Queue(), Queue()
        self.counts: dict[Key, int] = {}
        self.counted_nbytes = 0

    def _count(self, key: Key, nbytes: int) -> None:
        self.counts[key] = min(15, self.counts.get(key, 0) + 1)
        self.counted_nbytes += nbytes
        if self.counted_nbytes > 10 * self.budget_nbytes:
            self.counted_nbytes //= 2
            self.counts = {known: count // 2 for known, count in self.counts.items() if count > 1}

    def used(self, key: Key) -> None:
        if key in self.window:
            self.window.touch(key)
            self._count(key, self.window.sizes[key])
        elif key in self.protected:
            self.protected.touch(key)
            self._count(key, self.protected.sizes[key])
        else:
            nbytes = self.probation.remove(key)
            self._count(key, nbytes)
            self.protected.push(key, nbytes)
            while self.protected.nbytes > self.main_budget * 4 // 5:
                self.probation.push(*self.protected.pop())

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        self._count(key, nbytes)
        self.window.push(key, nbytes)
        dropped: list[Key] = []
        while self.window.nbytes > self.window_budget:
            self._leave_window(*self.window.pop(), dropped)
        return dropped

    def _leave_window(self, key: Key, nbytes: int, dropped: list[Key]) -> None:
        while self.probation.nbytes + self.protected.nbytes + nbytes > self.main_budget:
            queue = self.probation if self.probation.sizes else self.protected
            victim = next(iter(queue.sizes), None)
            if victim is None or self.counts.get(key, 0) <= self.counts.get(victim, 0):
                dropped.append(key)
                return
            queue.pop()
            dropped.append(victim)
        self.probation.push(key, nbytes)


NEVER = 1 << 60


class Belady:
    """The optimum for frames of one size: drops what is used again last, the frame offered included (1966)."""

    def __init__(self, budget_nbytes: int, accesses: Sequence[Key]) -> None:
        self.budget_nbytes = budget_nbytes
        self.nbytes = 0
        self.next_use = [NEVER] * len(accesses)
        last: dict[Key, int] = {}
        for at in range(len(accesses) - 1, -1, -1):
            self.next_use[at] = last.get(accesses[at], NEVER)
            last[accesses[at]] = at
        self.at = 0
        self.sizes: dict[Key, int] = {}
        self.due: dict[Key, int] = {}
        self.heap: list[tuple[int, Key]] = []

    def used(self, key: Key) -> None:
        self.due[key] = self.next_use[self.at]
        heapq.heappush(self.heap, (-self.due[key], key))
        self.at += 1

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        self.sizes[key] = nbytes
        self.nbytes += nbytes
        self.used(key)
        dropped = []
        while self.nbytes > self.budget_nbytes:
            due, victim = heapq.heappop(self.heap)
            if self.due.get(victim) == -due and victim in self.sizes:
                self.nbytes -= self.sizes.pop(victim)
                del self.due[victim]
                dropped.append(victim)
        return dropped


TEXTBOOK: Mapping[str, Callable[[int], Policy]] = {
    "LRU": Lru,
    "FIFO": Fifo,
    "random": RandomChoice,
    "2Q": TwoQueues,
    "ARC": Arc,
    "S3-FIFO": S3Fifo,
    "SIEVE": Sieve,
    "LFU": Lfu,
    "LIRS": Lirs,
    "W-TinyLFU": TinyLfu,
}
