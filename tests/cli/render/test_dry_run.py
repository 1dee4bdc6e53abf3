"""The last line of a dry run."""

from __future__ import annotations

import pytest

from zipfs.cli.render.dry_run import dry_run_total


@pytest.mark.parametrize(
    ("unpredicted_nbytes", "expected"),
    [
        (0, "2 files: 4.0 MiB would add about 3.0 MiB; nothing was written"),
        (1 << 20, "2 files: 4.0 MiB would add about 3.0 MiB (1.0 MiB of it counted uncompressed); nothing was written"),
    ],
)
def test_the_total_says_what_of_it_is_no_prediction(unpredicted_nbytes: int, expected: str) -> None:
    assert dry_run_total(2, 4 << 20, 3 << 20, unpredicted_nbytes) == expected
