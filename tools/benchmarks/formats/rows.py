"""Owns a row of what is measured: a size beside another one, or a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is what the goal, if there is one, is an upper bound of: a quotient of sizes, or milliseconds."""

    group: str
    name: str
    raw_nbytes: int
    stored_nbytes: int
    ratio: float
    goal: float | None

    @property
    def misses(self) -> bool:
        return self.goal is not None and round(self.ratio, 3) > self.goal

    def cells(self) -> tuple[str, ...]:
        """As a line of a table; a time has no stored bytes."""
        stored = f"{self.stored_nbytes / 1e6:.2f}" if self.stored_nbytes else ""
        share = f"{self.stored_nbytes / self.raw_nbytes:.3f}" if self.stored_nbytes else ""
        ratio = f"{self.ratio:.3f}" if self.stored_nbytes else f"{self.ratio:.1f} ms"
        goal = "" if self.goal is None else f"{self.goal:g}"
        return self.name, f"{self.raw_nbytes / 1e6:.1f}", stored, share, ratio, goal, "misses" if self.misses else ""
