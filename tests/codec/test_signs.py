"""MinhashSample are found where a plain reading of the signs says they are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from zipfs.codec.signs import SAMPLE_ITEMS, find_minhash_samples

_MASK = (1 << 64) - 1


def expected(raw: bytes, item_nbytes: int, stride: int, threshold: int) -> list[tuple[int, int]]:
    """(hash, place) by the definition."""
    signs = [raw[end] >> 7 for end in range(item_nbytes - 1, len(raw), item_nbytes)]
    found = []
    for place in range(0, len(signs) - SAMPLE_ITEMS + 1, stride):
        run = sum(sign << bit for bit, sign in enumerate(signs[place : place + SAMPLE_ITEMS]))
        value = run * 0x9E3779B97F4A7C15 & _MASK
        value = (value ^ value >> 32) * 0xD6E8FEB86659FD93 & _MASK
        value ^= value >> 32
        if value <= threshold and 4 <= run.bit_count() <= SAMPLE_ITEMS - 4:
            found.append((value, place))
    return found


def found(
    raw: bytes, item_nbytes: int, stride: int, threshold: int, at_most: int = 10_000
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    return find_minhash_samples(raw, item_nbytes, stride, threshold, at_most)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("item_nbytes", [1, 2, 4, 8])
@pytest.mark.parametrize("items", [0, 1, 47, 48, 49, 63, 64, 65, 111, 112, 127, 128, 129, 1000])
def test_every_sample_is_found_and_no_other(items: int, item_nbytes: int, stride: int) -> None:
    raw = np.random.default_rng(items).bytes(items * item_nbytes + item_nbytes - 1)
    for threshold in (_MASK, _MASK // 5):
        hashes, places = found(raw, item_nbytes, stride, threshold)
        whole = raw[: items * item_nbytes]
        assert list(zip(hashes.tolist(), places.tolist(), strict=True)) == expected(
            whole, item_nbytes, stride, threshold
        )


def test_items_that_lie_at_odd_addresses_are_read_too() -> None:
    raw = np.random.default_rng(1).bytes(4001)
    for offset in (1, 3):
        hashes, places = find_minhash_samples(memoryview(raw)[offset:4000], 2, 8, _MASK, 1000)
        assert list(zip(hashes.tolist(), places.tolist(), strict=True)) == expected(raw[offset:3999], 2, 8, _MASK)


def test_no_more_are_given_than_asked_for() -> None:
    raw = np.random.default_rng(2).bytes(8000)
    hashes, places = found(raw, 2, 1, _MASK)
    few, where = found(raw, 2, 1, _MASK, 7)
    assert np.array_equal(few, hashes[:7])
    assert np.array_equal(where, places[:7])
    assert found(raw, 2, 1, _MASK, 0)[0].size == 0


@pytest.mark.parametrize("raw", [bytes(4000), b"\x80" * 4000, b"\0\0\x80" * 10 + bytes(4000)])
def test_signs_that_are_nearly_all_alike_are_no_sample(raw: bytes) -> None:
    hashes, _ = found(raw, 1, 1, _MASK)
    assert hashes.size == len(expected(raw, 1, 1, _MASK)) <= 40


@pytest.mark.parametrize(
    ("item_nbytes", "stride"), [(0, 8), (3, 8), (16, 8), (-1, 8), (2, 0), (2, 3), (2, 16), (2, -8)]
)
def test_other_sizes_and_strides_are_refused(item_nbytes: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"items|stride"):
        found(bytes(1000), item_nbytes, stride, _MASK)
