"""The policy keeps to its budget whatever is asked for, and keeps what comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zipfs.store.policy import FramePolicy

MIB = 1 << 20


@given(st.integers(1, 64), st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40), st.integers(1, MIB))))
def test_the_budget_is_never_exceeded(budget_mib: int, asked: list[tuple[int, int, int]]) -> None:
    policy = FramePolicy(budget_mib * MIB)
    kept: dict[tuple[int, int], int] = {}
    for blob_id, number, nbytes in asked:
        key = blob_id, number
        if key in kept:
            policy.used(key)
        else:
            kept[key] = nbytes
            for victim in policy.admit(key, nbytes):
                del kept[victim]
        assert policy.nbytes == sum(kept.values()) <= policy.budget_nbytes


def test_of_a_model_read_over_and_over_the_share_that_fits_stays() -> None:
    policy = FramePolicy(512 * MIB)
    kept: set[tuple[int, int]] = set()
    hits = 0
    for round_number in range(8):
        for number in range(2048):
            key = 1, number
            if key in kept:
                policy.used(key)
                hits += round_number >= 4
            else:
                kept.add(key)
                kept.difference_update(policy.admit(key, MIB))
    assert hits / (4 * 2048) > 0.9 * (512 - 32) / 2048
