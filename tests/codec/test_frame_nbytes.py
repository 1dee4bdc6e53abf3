"""How long frames are: whole blocks, begun where items of any size begin, as the format of a store says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zipfs.store
from zipfs.codec import FRAME_NBYTES, frame_nbytes
from zipfs.dtypes import BLOCK_DTYPES, SAFETENSORS_DTYPES

FORMAT = Path(zipfs.store.__file__).with_name("FORMAT.md").read_text()


@pytest.mark.parametrize("dtype", sorted(BLOCK_DTYPES))
def test_a_frame_holds_whole_blocks_and_begins_at_an_item_of_any_size(dtype: str) -> None:
    nbytes, block = frame_nbytes(dtype), BLOCK_DTYPES[dtype].block_nbytes
    assert nbytes % block == nbytes % 64 == 0
    assert 0.99 * FRAME_NBYTES < nbytes <= FRAME_NBYTES


@pytest.mark.parametrize("dtype", [*SAFETENSORS_DTYPES, "", "X9"])
def test_all_else_is_cut_at_a_mebibyte(dtype: str) -> None:
    assert frame_nbytes(dtype) == FRAME_NBYTES == 1 << 20


def test_the_format_lists_every_block_type() -> None:
    rows = re.findall(r"\| (\w+) \| (\d+) \| (\d{7}) ", FORMAT)
    listed = {name: (int(block), int(step)) for name, block, step in rows}
    assert listed == {name: (dtype.block_nbytes, frame_nbytes(name)) for name, dtype in BLOCK_DTYPES.items()}
