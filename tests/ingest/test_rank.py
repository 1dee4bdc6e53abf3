"""Who works in the background gives way, and still ends when asked to."""

from __future__ import annotations

import sys

import pytest

from tests.support.mounts import REPOSITORY, run

_LOWER = """
import os, sys
from zipfs.ingest.rank import lower_rank
os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[1]))
lower_rank()
lower_rank()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize(("before", "after"), [(0, 10), (5, 10), (10, 10), (15, 15)])
def test_a_rank_is_lowered_to_one_value_and_not_by_one(before: int, after: int) -> None:
    assert int(run(sys.executable, "-c", _LOWER, before, cwd=REPOSITORY)) == after
