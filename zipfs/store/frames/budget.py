"""Owns the one limit for all decoded bytes that are kept in memory, whoever keeps them. Any thread may call."""

from __future__ import annotations

from typing import Protocol


class Share(Protocol):
    """Who keeps bytes. None of its locks may be held when room is made."""

    @property
    def nbytes(self) -> int:
        """Return what it keeps now."""

    @property
    def floor_nbytes(self) -> int:
        """Return what it may keep while others keep more than their floors."""

    def drop_one(self) -> bool:
        """Drop the thing that is least worth keeping; return whether there was one."""


class Budget:
    """At most `nbytes` bytes for all shares together."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._shares: list[Share] = []

    def join(self, share: Share) -> None:
        """Count a share in."""
        self._shares.append(share)

    def leave(self, share: Share) -> None:
        """Count a share no more."""
        self._shares.remove(share)

    @property
    def used_nbytes(self) -> int:
        return sum(share.nbytes for share in self._shares)

    def make_room(self, nbytes: int) -> None:
        """Have shares give way until `nbytes` more would keep to the limit: first those above their floor.

        To be called before memory is taken: what was dropped is used again then, and nothing has to be allocated.
        """
        while self.used_nbytes + nbytes > self.nbytes:
            above = [share for share in self._shares if share.nbytes > share.floor_nbytes]
            if not any(share.drop_one() for share in (*above, *self._shares)):
                return
