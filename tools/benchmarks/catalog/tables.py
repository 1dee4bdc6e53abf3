"""Owns what each table and index of a catalog takes, pages and their slack included."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tools.benchmarks.catalog.growth import Figures

SEARCH: Final = ("sketches", "signatures", "landmarks", "anchors")
"""Tables of what is kept for the search for relatives."""


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table or index: bytes of its pages, and of what is in them. Free pages are those of no table, ""."""

    name: str
    nbytes: int
    payload_nbytes: int
    rows: int

    @property
    def is_for_search(self) -> bool:
        return self.name in SEARCH


def table_sizes(store: Path) -> list[TableSize]:
    """Return the tables and indexes of the catalog of a store that is closed, the largest first."""
    with closing(sqlite3.connect(store / "catalog.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if ("ENABLE_DBSTAT_VTAB",) not in db.execute("PRAGMA compile_options").fetchall():
            raise SystemExit("bench: this SQLite does not tell what tables take; it lacks dbstat")
        rows = db.execute(
            "SELECT name, sum(pgsize), sum(payload), sum(iif(pagetype = 'leaf', ncell, 0)) FROM dbstat GROUP BY name"
        ).fetchall()
        free, page_nbytes = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
    sizes = [TableSize(*row) for row in rows]
    if free:
        sizes.append(TableSize("", free * page_nbytes, 0, 0))
    return sorted(sizes, key=lambda size: -size.nbytes)


def print_figures(console: Console, figures: Figures) -> None:
    """Print the tables, and what the whole of it comes to."""
    made, tensors = figures.made, max(figures.tensors, 1)
    title = f"{made.models} models of {made.families} families, {tensors} tensors, {figures.members} with a base"
    table = Table("table or index", title=title)
    for heading in ("rows", "bytes a tensor", "of them filled", "% of the packs"):
        table.add_column(heading, justify="right")

    def add(name: str, rows: str, nbytes: int, payload_nbytes: int) -> None:
        filled = payload_nbytes / nbytes if nbytes else 0.0
        share = 100 * nbytes / figures.packs_nbytes
        table.add_row(name, rows, f"{nbytes / tensors:.1f}", f"{filled:.2f}", f"{share:.3f}")

    for size in figures.tables:
        add(size.name or "(free pages)", str(size.rows), size.nbytes, size.payload_nbytes)
    table.add_section()
    search = [size for size in figures.tables if size.is_for_search]
    for name, chosen in (("for the search", search), ("all of the catalog", figures.tables)):
        add(name, "", sum(one.nbytes for one in chosen), sum(one.payload_nbytes for one in chosen))
    console.print(table)
    raw_nbytes = made.models * made.tensors * made.items * 2
    quarters = ", ".join(f"{seconds * 1e3 * 4 / (made.models * made.tensors):.2f}" for seconds in figures.quarters_s)
    console.print(
        f"packs {figures.packs_nbytes / 1e6:.1f} MB, {figures.packs_nbytes / tensors / 1e3:.1f} kB a tensor;"
        f" blobs that are needed {figures.needed_nbytes / 1e6:.3f} MB; raw {raw_nbytes / 1e6:.0f} MB"
    )
    console.print(
        f"processor time a tensor: stored in {quarters} ms (quarters of the models), rebased after the ingests in"
        f" {figures.rebasing_s * 1e3 / tensors:.2f} ms, all planned in {figures.planning_s * 1e3 / tensors:.2f} ms"
    )
