"""Cache policies that go by recency, behind the interface of `zipfs.store.frames.policy`, to compare it with.

Each is written from the paper that it names, in bytes instead of pages. None of them is part of the product.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Protocol

from zipfs.store.frames.policy import Key


class Policy(Protocol):
    """What `zipfs.store.frames.policy.FramePolicy` offers, as far as a simulation needs it."""

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
