"""The textbook's cache policies behind the interface of `zipfs.store.policy`, to compare it with.

Each is written for clarity from the paper that it names, in bytes instead of pages; sizes of single frames count only
where room is made. None of them is part of the product.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from zipfs.store.policy import Key


class Policy(Protocol):
    """What `zipfs.store.policy.FramePolicy` offers, as far as a simulation needs it."""

    def used(self, key: Key) -> None: ...
    def admit(self, key: Key, nbytes: int) -> list[Key]: ...


class Queue:
    """Keys in order with their sizes; the oldest first."""

    def __init__(self) -> None:
        self.sizes: OrderedDict[Key, int] = OrderedDict()
        self.nbytes = 0

    def __contains__(self, key: Key) -> bool:
        return key in self.sizes

    def push(self, key: Key, nbytes: int) -> None:
        self.sizes[key] = nbytes
        self.nbytes += nbytes

    def pop(self) -> tuple[Key, int]:
        key, nbytes = self.sizes.popitem(last=False)
        self.nbytes -= nbytes
        return key, nbytes

    def remove(self, key: Key) -> int:
        nbytes = self.sizes.pop(key)
        self.nbytes -= nbytes
        return nbytes

    def touch(self, key: Key) -> None:
        self.sizes.move_to_end(key)

    def trim(self, budget_nbytes: int) -> None:
        while self.nbytes > budget_nbytes:
            self.pop()


class Fifo:
    """First in, first out."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.queue = Queue()

    def used(self, key: Key) -> None:
        return

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        self.queue.push(key, nbytes)
        dropped = []
        while self.queue.nbytes > self.budget_nbytes:
            dropped.append(self.queue.pop()[0])
        return dropped


class Lru(Fifo):
    """Least recently used."""

    def used(self, key: Key) -> None:
        self.queue.touch(key)


class RandomChoice:
    """Any frame, with the same chance for each."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.keys: list[tuple[Key, int]] = []
        self.nbytes = 0
        self.random = random.Random(1)

    def used(self, key: Key) -> None:
        return

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        dropped = []
        self.keys.append((key, nbytes))
        self.nbytes += nbytes
        while self.nbytes > self.budget_nbytes:
            at = self.random.randrange(len(self.keys))
            self.keys[at], self.keys[-1] = self.keys[-1], self.keys[at]
            victim, victim_nbytes = self.keys.pop()
            self.nbytes -= victim_nbytes
            dropped.append(victim)
        return dropped


class TwoQueues:
    """2Q (Johnson and Shasha, 1994): a quarter for what came once, a history half as long as the cache."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.once, self.ghosts, self.main = Queue(), Queue(), Queue()

    def used(self, key: Key) -> None:
        if key in self.main:
            self.main.touch(key)

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        if key in self.ghosts:
            self.ghosts.remove(key)
            self.main.push(key, nbytes)
        else:
            self.once.push(key, nbytes)
        dropped = []
        while self.once.nbytes + self.main.nbytes > self.budget_nbytes:
            if self.once.nbytes > self.budget_nbytes // 4 or not self.main.sizes:
                victim, victim_nbytes = self.once.pop()
                self.ghosts.push(victim, victim_nbytes)
                self.ghosts.trim(self.budget_nbytes // 2)
            else:
                victim, _ = self.main.pop()
            dropped.append(victim)
        return dropped


class Arc:
    """ARC (Megiddo and Modha, 2003)."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.once, self.often = Queue(), Queue()
        self.once_ghosts, self.often_ghosts = Queue(), Queue()
        self.target = 0.0

    def used(self, key: Key) -> None:
        if key in self.once:
            self.often.push(key, self.once.remove(key))
        else:
            self.often.touch(key)

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        seen_often = key in self.often_ghosts
        if key in self.once_ghosts:
            gain = max(1.0, self.often_ghosts.nbytes / self.once_ghosts.nbytes)
            self.target = min(float(self.budget_nbytes), self.target + gain * nbytes)
            self.once_ghosts.remove(key)
            self.often.push(key, nbytes)
        elif seen_often:
            gain = max(1.0, self.once_ghosts.nbytes / self.often_ghosts.nbytes)
            self.target = max(0.0, self.target - gain * nbytes)
            self.often_ghosts.remove(key)
            self.often.push(key, nbytes)
        else:
            self.once.push(key, nbytes)
        dropped = []
        while self.once.nbytes + self.often.nbytes > self.budget_nbytes:
            over = self.once.nbytes > self.target or (seen_often and self.once.nbytes == self.target)
            if self.once.sizes and (over or not self.often.sizes):
                victim, victim_nbytes = self.once.pop()
                self.once_ghosts.push(victim, victim_nbytes)
            else:
                victim, victim_nbytes = self.often.pop()
                self.often_ghosts.push(victim, victim_nbytes)
            dropped.append(victim)
        self.once_ghosts.trim(max(0, self.budget_nbytes - self.once.nbytes))
        seen = self.once.nbytes + self.often.nbytes + self.once_ghosts.nbytes
        self.often_ghosts.trim(max(0, 2 * self.budget_nbytes - seen))
        return dropped


class S3Fifo:
    """S3-FIFO (Yang et al., 2023): a tenth for what is new, a history as long as the cache."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.small, self.main, self.ghosts = Queue(), Queue(), Queue()
        self.uses: dict[Key, int] = {}

    def used(self, key: Key) -> None:
        self.uses[key] = min(3, self.uses[key] + 1)

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        self.uses[key] = 0
        if key in self.ghosts:
            self.ghosts.remove(key)
            self.main.push(key, nbytes)
        else:
            self.small.push(key, nbytes)
        dropped: list[Key] = []
        while self.small.nbytes + self.main.nbytes > self.budget_nbytes:
            if self.small.sizes and (self.small.nbytes >= self.budget_nbytes // 10 or not self.main.sizes):
                self._evict_small(dropped)
            else:
                self._evict_main(dropped)
        return dropped

    def _evict_small(self, dropped: list[Key]) -> None:
        key, nbytes = self.small.pop()
        if self.uses[key] > 1:
            self.uses[key] = 0
            self.main.push(key, nbytes)
        else:
            self.ghosts.push(key, nbytes)
            self.ghosts.trim(self.budget_nbytes)
            del self.uses[key]
            dropped.append(key)

    def _evict_main(self, dropped: list[Key]) -> None:
        while True:
            key, nbytes = self.main.pop()
            if not self.uses[key]:
                del self.uses[key]
                dropped.append(key)
                return
            self.uses[key] -= 1
            self.main.push(key, nbytes)


class Sieve:
    """SIEVE (Zhang et al., 2024)."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.nbytes = 0
        self.sizes: dict[Key, int] = {}
        self.visited: dict[Key, bool] = {}
        self.newer: dict[Key | None, Key | None] = {None: None}
        """A list from the oldest, which follows None, to the newest, which None follows."""
        self.older: dict[Key | None, Key | None] = {None: None}
        self.hand: Key | None = None

    def used(self, key: Key) -> None:
        self.visited[key] = True

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        dropped = []
        while self.sizes and self.nbytes + nbytes > self.budget_nbytes:
            dropped.append(self._evict())
        newest = self.older[None]
        self.newer[newest], self.older[key], self.newer[key], self.older[None] = key, newest, None, key
        self.sizes[key], self.visited[key] = nbytes, False
        self.nbytes += nbytes
        return dropped

    def _evict(self) -> Key:
        at = self.hand if self.hand is not None else self.newer[None]
        while at is None or self.visited[at]:
            if at is not None:
                self.visited[at] = False
            at = self.newer[at]
        older, newer = self.older.pop(at), self.newer.pop(at)
        self.newer[older], self.older[newer], self.hand = newer, older, newer
        del self.visited[at]
        self.nbytes -= self.sizes.pop(at)
        return at


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
