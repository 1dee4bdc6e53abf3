"""A row of `tools/bench formats` misses its goal exactly above it, as it is printed."""

from __future__ import annotations

import pytest

from tools.benchmarks.formats.rows import Row


@pytest.mark.parametrize(("ratio", "goal", "misses"), [(1.0104, 1.01, False), (1.0106, 1.01, True), (9.0, None, False)])
def test_a_row_misses_its_goal_above_it(ratio: float, goal: float | None, misses: bool) -> None:
    row = Row("family", "bin BF16", 2_000_000, 500_000, ratio, goal)
    assert row.misses is misses
    assert row.cells()[:4] == ("bin BF16", "2.0", "0.50", "0.250")


def test_a_time_has_no_stored_bytes() -> None:
    assert Row("layout", "GGUF", 1_000_000, 0, 12.34, 50.0).cells() == ("GGUF", "1.0", "", "", "12.3 ms", "50", "")
