"""The names of models, and the lines that draw a family as a tree. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.inspect.families import Family, Member


def model_name(path: bytes) -> str:
    """Return the path of a model as text; `/` for the top."""
    return printable(path) or "/"


def last_part(path: bytes) -> str:
    """Return the name of a model without the directories that it lies in."""
    return model_name(path).rpartition("/")[2] or "/"


def tree_bars(family: Family) -> list[str]:
    """Return for each member the lines of the tree that come before its path."""
    found = []
    bars: list[str] = []
    for member, ends in zip(family.members, _is_last(family.members), strict=True):
        del bars[max(0, member.depth - 1) :]
        if not member.depth:
            found.append("")
            continue
        found.append("".join(bars) + ("└─ " if ends else "├─ "))
        bars.append("   " if ends else "│  ")
    return found


def _is_last(members: Sequence[Member]) -> list[bool]:
    """Tell of each member whether it is the last child of its parent."""
    seen: set[bytes | None] = set()
    last = []
    for member in reversed(members):
        last.append(member.parent not in seen)
        seen.add(member.parent)
    return last[::-1]
