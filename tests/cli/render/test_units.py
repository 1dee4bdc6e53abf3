"""Sizes, shares and counts as text."""

from __future__ import annotations

from zipfs.cli.render.units import counted, percent


def test_one_is_not_told_as_many() -> None:
    assert (counted(1, "file"), counted(0, "file"), counted(2000, "entry", "entries")) == (
        "1 file",
        "0 files",
        "2,000 entries",
    )


def test_percentages_are_not_rounded_to_nothing_or_all() -> None:
    assert [percent(part, 1000) for part in (0, 1, 10, 500, 999, 1000)] == ["0%", "<1%", "1%", "50%", "99%", "100%"]
    assert percent(0, 0) == "0%"
