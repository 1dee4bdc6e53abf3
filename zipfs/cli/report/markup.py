"""Pieces of HTML. Names come from whoever wrote the files: every one goes through `text` or `attribute`. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from zipfs.cli.render.units import percent, ratio, size
from zipfs.host import printable
from zipfs.inspect.storage_method import Shares, StorageMethod

_LONGEST_TEXT: Final = 90
_LONGEST_ATTRIBUTE: Final = 400
_BRIEF: Final = 24
_WHOLE: Final = 24
"""Characters of a name that are always in sight."""
METHODS: Final = {
    StorageMethod.SHARED: "the same bytes as elsewhere",
    StorageMethod.WHOLE_BASE: "against a tensor elsewhere",
    StorageMethod.BASE_RANGE: "against a range of a tensor",
    StorageMethod.CAST_BASE: "against a tensor of another type",
    StorageMethod.STANDALONE: "tensors by themselves",
    StorageMethod.BYTES: "what is no tensor",
    StorageMethod.SPOOL: "not compressed yet",
}


def text(name: bytes | str) -> str:
    """Escape a name as the content of an element; what is too long is cut out of its middle."""
    return html.escape(_cut(printable(name), _LONGEST_TEXT))


def attribute(name: bytes | str) -> str:
    """Escape a name as the value of an attribute between double quotes."""
    return html.escape(_cut(printable(name), _LONGEST_ATTRIBUTE), quote=True)


def _cut(name: str, at_most: int) -> str:
    if len(name) <= at_most:
        return name
    head = at_most // 2 - 1
    return f"{name[:head]}…{name[len(name) - (at_most - head - 1) :]}"


def brief(name: str, at_most: int = _BRIEF) -> str:
    """Escape a name for where there is little room, cut in its middle."""
    return html.escape(_cut(printable(name), at_most))


def name_cell(name: bytes | str, before: str = "") -> str:
    """Make a cell of a name: without its directory on a phone, in full as its title. `before` is HTML."""
    whole = printable(name)
    title = f' title="{attribute(name)}"' if len(whole) > _WHOLE else ""
    directory, slash, last = whole.rpartition("/")
    if len(whole) > _LONGEST_TEXT or not last:
        directory, slash, last = "", "", whole
    outer = f"<span class=wide>{text(directory + slash)}</span>" if slash else ""
    return f"<td class=name{title}>{before}{outer}{text(last)}</td>"


def in_of(nbytes: int, stored_nbytes: int) -> str:
    """`10 GiB in 2 GiB (20.0%)`."""
    return f"{size(nbytes)} in {size(stored_nbytes)} ({ratio(stored_nbytes, nbytes)})"


def method_bar(shares: Shares, stored: bool = False) -> str:
    """Draw what is stored by which method as a bar: of the raw bytes, or of what they take."""
    sizes = {method: share.stored_nbytes if stored else share.nbytes for method, share in shares.items()}
    total = sum(sizes.values())
    parts = "".join(
        f"<i class=w{int(method)} style=width:{100 * nbytes / total:.3g}%"
        f' title="{method.label} {percent(nbytes, total)}"></i>'
        for method, nbytes in sizes.items()
        if nbytes
    )
    return f"<span class=bar>{parts}</span>"


@dataclass(frozen=True, slots=True)
class Title:
    """The title of a column; one that is `wide` is not shown on a phone."""

    name: str
    number: bool = True
    wide: bool = False

    @property
    def classes(self) -> str:
        found = " ".join(filter(None, ("n" if self.number else "", "wide" if self.wide else "")))
        return f' class="{found}"' if found else ""


def table(titles: Sequence[Title], rows: Iterable[Sequence[str]], classes: str = "") -> str:
    """Make a table in a frame that scrolls by itself. A row is of cells from `cell` and its like."""
    head = "".join(f"<th{title.classes}>{title.name}</th>" for title in titles)
    body = "\n".join(
        f"<tr>{''.join(_placed(cell, title) for cell, title in zip(row, titles, strict=True))}</tr>" for row in rows
    )
    return (
        f'<div class="scroll {classes}"><table class="{classes}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n'
        "</tbody></table></div>"
    )


def _placed(cell: str, title: Title) -> str:
    return cell.replace("<td", f"<td{title.classes}", 1) if title.classes else cell


def cell(content: str) -> str:
    return f"<td>{content}</td>"


def number_cell(content: str, value: float) -> str:
    """Make a cell that is sorted by a number."""
    return f'<td data-v="{value:.6g}">{content}</td>'


def size_cells(nbytes: int, stored_nbytes: int) -> list[str]:
    """Make the cells of a size, what was added, that of the size, and what was saved."""
    saved = nbytes - stored_nbytes
    return [
        number_cell(size(nbytes), nbytes),
        number_cell(size(stored_nbytes), stored_nbytes),
        number_cell(ratio(stored_nbytes, nbytes), stored_nbytes / max(nbytes, 1)),
        number_cell(size(saved) if saved >= 0 else f"-{size(-saved)}", saved),
    ]
