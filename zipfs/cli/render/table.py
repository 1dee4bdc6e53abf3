"""Tables that fit the terminal: columns that may shrink give way; whole lines where nobody watches.

Pure but for `terminal_width`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """`number` says that it is set to the right. What does not fit is cut out of its middle, down to `least` cells;
    0 if it does not shrink.

    Columns that are `dispensable` are left out one by one, those with the highest number first, where even that is not
    enough.
    """

    title: str
    number: bool = True
    least: int = 0
    dispensable: int = 0


def terminal_width() -> int | None:
    """Cells of a line; None where the output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lay_out_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """The lines of a table, its titles first; none is wider than `width` unless even what is left at last needs more.

    A line at the end names the columns that were left out.
    """
    from rich.cells import cell_len

    titles = [column.title for column in columns]
    widths = [max(cell_len(row[at]) for row in [titles, *rows]) for at in range(len(columns))]
    kept = list(range(len(columns)))
    left_out: list[str] = []
    while width is not None and _least(columns, widths, kept) > width:
        last = max(kept, key=lambda at: (columns[at].dispensable, at))
        if not columns[last].dispensable:
            break
        kept.remove(last)
        left_out.insert(0, columns[last].title)
    if width is not None:
        _shrink(columns, widths, kept, width)
    for row in [titles, *rows]:
        yield _GAP.join(_fitted(row[at], widths[at], columns[at]) for at in kept).rstrip()
    if left_out:
        yield f"(left out for want of room: {', '.join(left_out)})"


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[at] for at in kept) + len(_GAP) * (len(kept) - 1)


def _least(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]) -> int:
    least = [min(width, column.least or width) for column, width in zip(columns, widths, strict=True)]
    return _total(least, kept)


def _shrink(columns: Sequence[Column], widths: list[int], kept: Sequence[int], width: int) -> None:
    """Take from the column that has most to give, down to the next one, as long as there is too much."""
    while (excess := _total(widths, kept) - width) > 0:
        spare = sorted((widths[at] - columns[at].least, at) for at in kept if 0 < columns[at].least < widths[at])
        if not spare:
            return
        most, widest = spare[-1]
        following = spare[-2][0] if len(spare) > 1 else 0
        widths[widest] -= max(1, min(excess, most - following))


def _fitted(text: str, width: int, column: Column) -> str:
    from rich.cells import cell_len

    text = shorten(text, width) if column.least else text
    space = " " * max(0, width - cell_len(text))
    return space + text if column.number else text + space


def shorten(text: str, width: int) -> str:
    """A text of at most `width` cells: what is too much is cut out of its middle."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    head, tail = "", ""
    for left, right in zip(text, reversed(text), strict=True):
        if cell_len(head + left + tail) >= width:
            break
        head += left
        if cell_len(head + tail + right) >= width:
            break
        tail = right + tail
    return head + "…" + tail
