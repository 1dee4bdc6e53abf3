"""Bits per weight by place in the model: grids that are filled tensor by tensor, and cut down to what can be shown.

A grid counts the bits that were added to the store and the weights that they stand for; a cell shows their quotient.
Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Row = TypeVar("Row", bound=Hashable)
Column = TypeVar("Column", bound=Hashable)

LEVELS: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0)
"""Bits per weight up to which a cell has each colour; more has the last one."""


@dataclass(slots=True)
class Cell:
    """Sums over tensors."""

    bits: float = 0.0
    weights: float = 0.0
    nbytes: int = 0

    def add(self, other: Cell) -> None:
        self.bits += other.bits
        self.weights += other.weights
        self.nbytes += other.nbytes

    @property
    def per_weight(self) -> float | None:
        return self.bits / self.weights if self.weights else None


def level(bits: float) -> int:
    """Return the number of the colour that so many bits per weight have."""
    return next((number for number, most in enumerate(LEVELS) if bits <= most), len(LEVELS))


class Grid(Generic[Row, Column]):
    """Cells by row and column, both in the order in which they came."""

    def __init__(self) -> None:
        self.cells: dict[tuple[Row, Column], Cell] = {}
        self.rows: dict[Row, Cell] = {}
        self.columns: dict[Column, Cell] = {}

    def add(self, row: Row, column: Column, cell: Cell) -> None:
        self.cells.setdefault((row, column), Cell()).add(cell)
        self.rows.setdefault(row, Cell()).add(cell)
        self.columns.setdefault(column, Cell()).add(cell)

    def cell(self, rows: Sequence[Row], columns: Sequence[Column]) -> Cell:
        """Sum over some rows and columns."""
        total = Cell()
        for row in rows:
            for column in columns:
                if (row, column) in self.cells:
                    total.add(self.cells[row, column])
        return total


def binned(items: Sequence[Row], at_most: int) -> list[list[Row]]:
    """Take neighbours together, so that no more than `at_most` groups are left."""
    size = max(1, -(-len(items) // at_most))
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def largest(cells: Mapping[str, Cell], at_most: int) -> tuple[list[str], list[str]]:
    """Return the `at_most` with most bytes, and the others, both in order."""
    ranked = sorted(cells, key=lambda one: (-cells[one].nbytes, one))
    return sorted(ranked[:at_most]), sorted(ranked[at_most:])
