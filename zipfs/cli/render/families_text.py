"""What `zipfs families` prints for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from zipfs.cli.render.model_tree import model_name, tree_bars
from zipfs.cli.render.store_sizes import leftovers
from zipfs.cli.render.table import Column, lay_out_table
from zipfs.cli.render.units import counted, percent, ratio, size

if TYPE_CHECKING:
    from zipfs.inspect.families import Family, FamilyReport, Member
    from zipfs.inspect.storage_method import StorageMethod
    from zipfs.inspect.store_report import StoreReport
    from zipfs.store.catalog.sizes import StoreSizes

_COLUMNS = (
    Column("model", number=False, least=24),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=7),
)
_DISPENSABLE: Final = {"shared": 1, "base": 2, "cast": 3, "range": 4, "spool": 5, "standalone": 6, "bytes": 8}


def families_text(report: StoreReport, width: int | None) -> Iterator[str]:
    """Draw the families of a store as trees, for a terminal of `width` cells; None for any width."""
    found = report.families
    used = sorted({method for family in found.families for member in family.members for method in member.shares})
    columns = [*_COLUMNS, *(Column(method.label, dispensable=_DISPENSABLE[method.label]) for method in used)]
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
        yield f"{counted(len(single), 'model')} without siblings"
    if rows:
        yield ""
    yield from _totals(found, report.sizes)


def _sum(family: Family) -> str:
    kept = f", {size(family.kept_nbytes)} of it bases whose own files are gone" if family.kept_nbytes else ""
    return (
        f"{len(family.members)} models, {size(family.nbytes)} in {size(family.stored_nbytes)}"
        f" ({ratio(family.stored_nbytes, family.nbytes)}), {size(family.saved_nbytes)} saved{kept}"
    )


def _totals(found: FamilyReport, sizes: StoreSizes) -> Iterator[str]:
    for ending, foreign in found.foreign.items():
        in_all = _in(foreign.share.nbytes, foreign.share.stored_nbytes)
        yield f"{counted(foreign.files, f'{ending} file')}: {in_all}, kept as bytes"
    if found.foreign:
        yield "(no tensors were found in these; `zipfs explain` says of each why)"
    if found.plain_files:
        in_all = _in(found.plain.nbytes, found.plain.stored_nbytes)
        yield f"{counted(found.plain_files, 'file')} outside of models: {in_all}"
    if found.spool_files:
        are = "is" if found.spool_files == 1 else "are"
        yield f"{counted(found.spool_files, 'file')} ({size(found.spool.nbytes)}) {are} not compressed yet"
    saved = size(max(0, sizes.raw_nbytes - sizes.stored_nbytes))
    yield f"all: {_in(sizes.raw_nbytes, sizes.stored_nbytes)}, {saved} saved"
    for line in leftovers(sizes):
        yield f"  {line}"


def _in(nbytes: int, stored_nbytes: int) -> str:
    return f"{size(nbytes)} in {size(stored_nbytes)} ({ratio(stored_nbytes, nbytes)})"


def _row(member: Member, name: str, methods: Sequence[StorageMethod]) -> list[str]:
    shares = (
        percent(member.shares[method].nbytes, member.nbytes) if method in member.shares else "" for method in methods
    )
    stored = ratio(member.stored_nbytes, member.nbytes)
    return [name, size(member.nbytes), size(member.stored_nbytes), stored, *shares]
