"""What is kept for the search takes a hundredth at most of what small tensors take, and a benchmark says so."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tools.benchmarks.catalog.growth import Figures, Made, grow
from tools.benchmarks.catalog.tables import TableSize, print_figures

MADE = Made(families=2, models=16, tensors=8, items=384 * 400, noise=0.007)


def table(name: str, nbytes: int, rows: int = 1) -> TableSize:
    return TableSize(name, nbytes, nbytes // 2, rows)


@pytest.mark.slow
def test_what_is_kept_for_the_search_takes_a_hundredth(tmp_path: Path) -> None:
    figures = grow(MADE, tmp_path)
    assert (figures.tensors, figures.members) == (128, 112)
    assert figures.needed_nbytes < figures.packs_nbytes < 0.4 * 128 * MADE.items * 2
    assert len(figures.quarters_s) == 4
    assert figures.catalog_nbytes == (tmp_path / "store" / "catalog.db").stat().st_size
    rows = {one.name: one.rows for one in figures.tables}
    assert (rows["signatures"], rows["landmarks"], rows["sketches"]) == (128, 112, 0)
    search_nbytes = sum(one.nbytes for one in figures.tables if one.is_for_search)
    assert 0 < search_nbytes <= 0.01 * figures.packs_nbytes


def test_sizes_are_told_of_a_tensor_and_of_the_packs() -> None:
    figures = Figures(MADE, tensors=100, members=90, packs_nbytes=1_000_000, quarters_s=[0.1] * 4)
    figures.tables = [table("blobs", 20_000), table("signatures", 5_000), table("sketches", 4_000), table("", 1_000)]
    told = io.StringIO()
    print_figures(Console(width=120, file=told), figures)
    rows = [[cell.strip() for cell in line.split("│")] for line in told.getvalue().splitlines() if "│" in line]
    of_table = {row[1]: row[3:6] for row in rows}
    assert of_table["blobs"] == ["200.0", "0.50", "2.000"]
    assert of_table["for the search"] == ["90.0", "0.50", "0.900"]
    assert of_table["(free pages)"] == ["10.0", "0.50", "0.100"]
    assert of_table["all of the catalog"] == ["300.0", "0.50", "3.000"]
