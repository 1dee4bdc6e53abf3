"""Memory is there before it is written, and what is in it stays."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from zipfs.store.memory import make_resident

NBYTES = 16 << 20
PAGE = resource.getpagesize()


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def test_a_buffer_that_is_resident_is_written_without_a_fault_for_each_page() -> None:
    view = np.empty(NBYTES, np.uint8).data
    make_resident(view)
    before = faults()
    view[::PAGE] = bytes(NBYTES // PAGE)
    assert faults() - before < NBYTES // PAGE // 20


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (1, 2), (PAGE - 1, PAGE + 1), (5, NBYTES - 7), (0, NBYTES)])
def test_what_a_buffer_holds_stays(start: int, stop: int) -> None:
    array = np.arange(NBYTES // 4, dtype=np.uint32)
    make_resident(array.view(np.uint8).data[start:stop])
    assert np.array_equal(array, np.arange(NBYTES // 4, dtype=np.uint32))
