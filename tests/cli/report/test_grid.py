"""The colours of a grid."""

from __future__ import annotations

from zipfs.cli.report.grid import LEVELS, level


def test_colours_follow_the_bits() -> None:
    assert [level(bits) for bits in (0.0, 0.1, 0.25, 0.26, 10.6, 11.5, 64)] == [0, 1, 1, 2, 9, 10, 10]
    assert len(LEVELS) == 10
