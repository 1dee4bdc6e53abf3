"""When a tensor is standalone to be a base: where the members that are there pay for it, and not on a mere hope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from zipfs.bases.similarity.choose_base import choose_base
from zipfs.bases.similarity.open_new_base import is_poor, worth_opening
from zipfs.bases.similarity.sketch import sketch

ITEMS = 60_000
NBYTES = 4 * ITEMS
F32 = NDArray[np.float32]


def sketch_of(values: F32) -> bytes:
    raw = values.astype("<f4").tobytes()
    return sketch(lambda offset, nbytes: raw[offset : offset + nbytes], len(raw), "F32")


def random(seed: int, scale: float) -> F32:
    return np.random.default_rng(seed).normal(0, scale, ITEMS).astype("<f4")


def opens(mine: bytes, base: bytes, siblings: Sequence[bytes]) -> bool:
    choice = choose_base(mine, NBYTES, "F32", [(1, base)])
    assert choice is not None
    return is_poor(choice) and worth_opening(mine, NBYTES, "F32", choice, base, siblings)


@pytest.mark.parametrize("step", [2e-5, 1e-4, 4e-4])
def test_no_checkpoint_of_a_run_is_standalone_while_its_base_is_there(step: float) -> None:
    """Each is a little nearer to the ones before it than to the base: that would pay only for a long time to come."""
    start, direction = random(0, 0.05), random(1, 0.3 * step)
    run = [start + number * direction + sum(random(10 + at, step) for at in range(number)) for number in range(8)]
    sketches = [sketch_of(values) for values in run]
    for number in range(2, len(run)):
        assert not opens(sketches[number], sketches[0], sketches[1:number]), number


def test_the_centre_of_a_family_is_standalone_where_its_base_is_an_outlier() -> None:
    outlier, centre = random(0, 0.05), random(0, 0.05) + random(1, 0.01)
    siblings = [sketch_of(centre + random(10 + number, 2e-5)) for number in range(4)]
    assert opens(sketch_of(centre), sketch_of(outlier), siblings)
    assert not opens(sketch_of(centre), sketch_of(outlier), [])
