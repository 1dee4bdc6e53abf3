"""`zipfs families`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zipfs.cli.render.output import AnyPath, counted, counting, json_option, percent, print_json, ratio, size
from zipfs.cli.render.table import Column, lay_out_table, terminal_width
from zipfs.cli.takes import leftovers, parts_of
from zipfs.host import printable
from zipfs.inspect.foreign import TAKEN_APART

if TYPE_CHECKING:
    from zipfs.inspect.families import Family, Kinship, Member, Share
    from zipfs.store.catalog.sizes import Figures


@click.command("families")
@click.argument("store", type=AnyPath())
@json_option
def families_command(store: Path, as_json: bool) -> None:
    """Show which models in STORE (or in what is mounted there) are related, and what that saves.

    A model is a directory that holds tensors. Each hangs on the one that most of its bytes rest on, because they are
    coded against tensors there or are the same. For each: its size, what it added to the store, and how much of it is
    stored how: shared as it is, against a tensor of another model (delta), a range of one or one of another type
    (cast), alone, or as bytes that are no tensor.

    \b
    Example:
      zipfs families /store
    """
    from zipfs.cli.places import store_at
    from zipfs.inspect.families import find_families
    from zipfs.inspect.inventory import take_census
    from zipfs.store.catalog.sizes import take_figures
    from zipfs.store.maintenance.collect import freeable_nbytes
    from zipfs.store.store import open_store

    with open_store(store_at(store), read_only=True) as opened, counting() as report:
        found = find_families(take_census(opened, report))
        figures = take_figures(opened.catalog, freeable_nbytes(opened))
    if as_json:
        print_json(document(found, figures))
        return
    for line in _lines(found, figures, terminal_width()):
        click.echo(line)


def document(found: Kinship, figures: Figures) -> dict[str, Any]:
    """What `--json` prints: sizes in bytes, paths as text."""
    return {
        "nbytes": figures.raw_nbytes,
        "stored_nbytes": figures.stored_nbytes,
        "saved_nbytes": figures.raw_nbytes - figures.stored_nbytes,
        **parts_of(figures),
        "other_formats": {
            ending: {"files": foreign.files, **_sizes(foreign.share)} for ending, foreign in found.foreign.items()
        },
        "other_files": {"files": found.other_files, **_sizes(found.others)},
        "spool": {"files": found.spool_files, **_sizes(found.spool)},
        "families": [_family(family) for family in found.families],
    }


def _sizes(share: Share) -> dict[str, int]:
    return {"nbytes": share.nbytes, "stored_nbytes": share.stored_nbytes}


def _family(family: Family) -> dict[str, Any]:
    return {
        "root": model_name(family.root.path),
        "nbytes": family.nbytes,
        "stored_nbytes": family.stored_nbytes,
        "saved_nbytes": family.saved_nbytes,
        "kept_nbytes": family.kept_nbytes,
        "members": [_member(member) for member in family.members],
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "path": model_name(member.path),
        "parent": None if member.parent is None else model_name(member.parent),
        "files": member.files,
        "tensors": member.tensors,
        "nbytes": member.nbytes,
        "stored_nbytes": member.stored_nbytes,
        "saved_nbytes": member.saved_nbytes,
        "carried_nbytes": member.carried_nbytes,
        "ways": {way.label: _sizes(share) for way, share in member.ways.items()},
        "rests_on": [{"path": model_name(path), "nbytes": nbytes} for path, nbytes in member.rests_on],
    }


def model_name(path: bytes) -> str:
    return printable(path) or "/"


def last_part(path: bytes) -> str:
    """The name of a model without the directories that it lies in."""
    return model_name(path).rpartition("/")[2] or "/"


_COLUMNS = (
    Column("model", number=False, least=24),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=7),
)
_DISPENSABLE: Final = {"shared": 1, "delta": 2, "cast": 3, "range": 4, "spool": 5, "alone": 6, "bytes": 8}


def _lines(found: Kinship, figures: Figures, width: int | None) -> Iterator[str]:
    from zipfs.inspect.inventory import Way

    used = [way for way in Way if any(way in member.ways for family in found.families for member in family.members)]
    columns = [*_COLUMNS, *(Column(way.label, dispensable=_DISPENSABLE[way.label]) for way in used)]
    related = [family for family in found.families if len(family.members) > 1]
    single = [family.root for family in found.families if len(family.members) == 1]
    rows: list[list[str]] = []
    for family in related:
        rows += [
            _row(member, bars + model_name(member.path), used)
            for member, bars in zip(family.members, tree_bars(family), strict=True)
        ]
    rows += [_row(member, model_name(member.path), used) for member in single]
    lines = list(lay_out_table(columns, rows, width))
    if rows:
        yield lines[0]
    at = 1
    for family in related:
        yield ""
        yield from lines[at : at + len(family.members)]
        at += len(family.members)
        yield _sum(family)
    if single:
        yield ""
        yield from lines[at:]
        yield f"{counted(len(single), 'model')} without relatives"
    if rows:
        yield ""
    yield from _totals(found, figures)


def _sum(family: Family) -> str:
    kept = f", {size(family.kept_nbytes)} of it bases whose own files are gone" if family.kept_nbytes else ""
    return (
        f"{len(family.members)} models, {size(family.nbytes)} in {size(family.stored_nbytes)}"
        f" ({ratio(family.stored_nbytes, family.nbytes)}), {size(family.saved_nbytes)} saved{kept}"
    )


def _totals(found: Kinship, figures: Figures) -> Iterator[str]:
    for ending, foreign in found.foreign.items():
        sizes = _in(foreign.share.nbytes, foreign.share.stored_nbytes)
        yield f"{counted(foreign.files, f'{ending} file')}: {sizes}, kept as bytes"
    if found.foreign:
        yield f"(of the formats of models, only {TAKEN_APART} is taken apart)"
    if found.plain_files:
        sizes = _in(found.plain.nbytes, found.plain.stored_nbytes)
        yield f"{counted(found.plain_files, 'file')} outside of models: {sizes}"
    if found.spool_files:
        are = "is" if found.spool_files == 1 else "are"
        yield f"{counted(found.spool_files, 'file')} ({size(found.spool.nbytes)}) {are} not compressed yet"
    saved = size(max(0, figures.raw_nbytes - figures.stored_nbytes))
    yield f"all: {_in(figures.raw_nbytes, figures.stored_nbytes)}, {saved} saved"
    for line in leftovers(figures):
        yield f"  {line}"


def _in(nbytes: int, stored_nbytes: int) -> str:
    return f"{size(nbytes)} in {size(stored_nbytes)} ({ratio(stored_nbytes, nbytes)})"


def tree_bars(family: Family) -> list[str]:
    """The lines of a tree that come before the members' paths."""
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
    """Whether each is the last child of its parent."""
    seen: set[bytes | None] = set()
    last = []
    for member in reversed(members):
        last.append(member.parent not in seen)
        seen.add(member.parent)
    return last[::-1]


def _row(member: Member, name: str, ways: Sequence[Any]) -> list[str]:
    shares = (percent(member.ways[way].nbytes, member.nbytes) if way in member.ways else "" for way in ways)
    stored = ratio(member.stored_nbytes, member.nbytes)
    return [name, size(member.nbytes), size(member.stored_nbytes), stored, *shares]
