"""Tables that fit the terminal: wide columns shrink, and some are left out. Where nobody watches, lines are whole.

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
    """A column of a table; `number` sets it to the right.

    What does not fit is cut out of the middle of its cells, down to `least` cells of the terminal; 0 if it does not
    shrink. Where that is not enough, columns that are `dispensable` are left out, the highest number first.
    """

    title: str
    number: bool = True
    least: int = 0
    dispensable: int = 0


def terminal_width() -> int | None:
    """Return the cells of a line; None where the output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lay_out_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield the lines of a table, its titles first, and at the end one that names the columns that were left out.

    None is wider than `width`, unless even the columns that are left at last need more.
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
    """Narrow the column that can spare most, down to the next one, as long as there is too much."""
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
    """Cut a text down to at most `width` cells, out of its middle."""
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
