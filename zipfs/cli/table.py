"""Tables that fit the terminal: the widest of the columns that may shrink gives way; whole lines where nobody watches.

Pure but for `terminal_width`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_GAP: Final = "  "
_LEAST: Final = 12


@dataclass(frozen=True, slots=True)
class Column:
    """`shrinks` says that what does not fit is cut out of its middle; `number` that it is set to the right."""

    title: str
    number: bool = True
    shrinks: bool = False


def terminal_width() -> int | None:
    """Cells of a line; None where the output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lay_out_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """The lines of a table, its titles first, none wider than `width` if the columns that shrink can give so much."""
    from rich.cells import cell_len

    widths = [max(cell_len(column.title), *(cell_len(row[at]) for row in rows), 0) for at, column in enumerate(columns)]
    if width is not None:
        excess = sum(widths) + len(_GAP) * (len(columns) - 1) - width
        while excess > 0:
            wide = [at for at, column in enumerate(columns) if column.shrinks and widths[at] > _LEAST]
            if not wide:
                break
            widest = max(wide, key=lambda at: widths[at])
            others = [widths[at] for at in wide if at != widest]
            step = max(1, min(excess, widths[widest] - max([_LEAST, *others])))
            widths[widest] -= step
            excess -= step
    for row in ([column.title for column in columns], *rows):
        cells = (_fitted(text, widths[at], columns[at]) for at, text in enumerate(row))
        yield _GAP.join(cells).rstrip()


def _fitted(text: str, width: int, column: Column) -> str:
    from rich.cells import cell_len

    text = shorten(text, width) if column.shrinks else text
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
