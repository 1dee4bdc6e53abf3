"""The table of item types: blocks have the sizes that GGML gives them, and are no floats."""

from __future__ import annotations

import pytest

from zipfs.codec import Cast
from zipfs.dtypes import BLOCK_DTYPES, SAFETENSORS_DTYPES, float_fields, is_tensor, item_nbytes, turned_bits
from zipfs.inspect.bits_per_weight import weight_count

# Bytes of the fields of a block in ggml-common.h: scales, minima, codes, high bits, signs, sums.
FIELDS = {
    "Q1_0": (2, 128 // 8), "Q2_0": (2, 64 // 4),
    "Q4_0": (2, 16), "Q4_1": (2, 2, 16), "Q5_0": (2, 4, 16), "Q5_1": (2, 2, 4, 16), "Q8_0": (2, 32), "Q8_1": (2, 2, 32),
    "Q2_K": (16, 64, 2, 2), "Q3_K": (32, 64, 12, 2), "Q4_K": (2, 2, 12, 128), "Q5_K": (2, 2, 12, 32, 128),
    "Q6_K": (128, 64, 16, 2), "Q8_K": (4, 256, 2 * 16),
    "IQ1_S": (2, 32, 2 * 8), "IQ1_M": (32, 16, 8), "IQ2_XXS": (2, 2 * 32), "IQ2_XS": (2, 2 * 32, 8),
    "IQ2_S": (2, 64, 8, 8), "IQ3_XXS": (2, 3 * 32), "IQ3_S": (2, 64, 8, 32, 4), "IQ4_NL": (2, 16),
    "IQ4_XS": (2, 2, 4, 128), "TQ1_0": (48, 4, 2), "TQ2_0": (64, 2), "MXFP4": (1, 16), "NVFP4": (4, 32),
}  # fmt: skip

WEIGHTS = {"Q1_0": 128, "Q2_0": 64, "NVFP4": 64, **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1"), 32)} | dict.fromkeys(
    ("Q8_0", "Q8_1", "IQ4_NL", "MXFP4"), 32
)
"""Weights of a block; 256 in all others."""


def test_a_block_is_as_long_as_its_fields() -> None:
    assert BLOCK_DTYPES.keys() == FIELDS.keys()
    for name, dtype in BLOCK_DTYPES.items():
        assert (dtype.block_nbytes, dtype.block_weights) == (sum(FIELDS[name]), WEIGHTS.get(name, 256)), name


def test_no_name_means_two_types() -> None:
    assert not BLOCK_DTYPES.keys() & SAFETENSORS_DTYPES.keys()


@pytest.mark.parametrize("dtype", sorted(BLOCK_DTYPES))
def test_blocks_are_tensors_of_single_bytes_and_no_floats(dtype: str) -> None:
    assert is_tensor(dtype)
    assert (item_nbytes(dtype), turned_bits(dtype), float_fields(dtype)) == (1, 0, (0, 0))
    with pytest.raises(ValueError, match="no cast"):
        Cast(dtype, "F32")


@pytest.mark.parametrize(
    ("dtype", "bits"), [("Q8_0", 8.5), ("Q4_K", 4.5), ("Q6_K", 6.5625), ("MXFP4", 4.25), ("F4", 4)]
)
def test_a_weight_may_have_a_part_of_a_bit(dtype: str, bits: float) -> None:
    assert weight_count(1_000 * 1_260, dtype) * bits == pytest.approx(8 * 1_000 * 1_260)
    assert weight_count(8_704, "Q8_0") == 8_192
