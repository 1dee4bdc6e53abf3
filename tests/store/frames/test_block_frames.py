"""Frames of whole blocks: any base, with frames of whatever length, gives any member what it is coded against."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.objects.test_base_view import Pack
from tests.support.blocks import blocks, tuned_blocks
from zipfs.codec import FRAME_NBYTES, frame_nbytes
from zipfs.errors import PackDamaged
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.decode_plan import Target, plan_step
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef

DTYPES = ("Q8_0", "IQ2_S", "Q6_K", "U8", "")
STEP = frame_nbytes("Q8_0")
BASE = blocks("Q8_0", 3 * FRAME_NBYTES + 4321)


def check_member(directory: Path, base_dtype: str, dtype: str, view: View, nbytes: int) -> None:
    """Store a base and a member, and read all of the member frame by frame and by ranges."""
    whole = BASE[view.offset : view.offset + view.nbytes].ljust(nbytes, b"\0")[:nbytes]
    raw = tuned_blocks(whole)
    pack = Pack(directory / "packs")
    base_id = pack.add(BASE, base_dtype)
    member = pack.open(pack.add(raw, dtype, BaseRef(base_id, view), BASE))
    pack.writer.sync()
    step = frame_nbytes(dtype)
    assert member.blob.frame_count == len(member.blob.frames) == -(-nbytes // step)
    frames = FrameCache(64 << 20)
    order = np.random.default_rng(nbytes).permutation(member.blob.frame_count).tolist()
    for index in order:
        assert bytes(frames.decode(member, index)) == raw[index * step : (index + 1) * step]
        against = bytes(frames.view(pack.open(base_id), view, index * step, member.blob.frame_nbytes(index)))
        assert against == whole[index * step : (index + 1) * step]
    for at in (0, step - 3, step, FRAME_NBYTES - 1, nbytes - 5):
        offset = max(0, min(at, nbytes - 1))
        assert bytes(frames.range(member, offset, 70_000)) == raw[offset : offset + 70_000]
    frames.close()


@pytest.mark.parametrize("base_dtype", DTYPES)
@pytest.mark.parametrize("dtype", ["Q8_0", "IQ2_S", "U8"])
@pytest.mark.parametrize("offset", [0, 34 * 500 + 7, STEP - 1])
def test_a_base_may_have_frames_of_another_length(tmp_path: Path, base_dtype: str, dtype: str, offset: int) -> None:
    view = View(offset, len(BASE) - offset)
    check_member(tmp_path, base_dtype, dtype, view, 2 * FRAME_NBYTES + 999)


@settings(max_examples=25, deadline=None)
@given(
    base_dtype=st.sampled_from(DTYPES),
    dtype=st.sampled_from(DTYPES),
    offset=st.integers(0, 2 * FRAME_NBYTES) | st.integers(-40, 40).map(lambda by: STEP + by),
    length=st.integers(1, len(BASE)),
    nbytes=st.integers(1, 100) | st.integers(FRAME_NBYTES - 3000, FRAME_NBYTES + 100),
)
def test_any_view_of_any_base(base_dtype: str, dtype: str, offset: int, length: int, nbytes: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        view = View(offset, min(length, len(BASE) - offset))
        check_member(Path(directory), base_dtype, dtype, view, nbytes)


@pytest.mark.parametrize(
    ("dtype", "offset", "frames"), [("Q8_0", 0, [1]), ("U8", 0, [0, 1]), ("U8", FRAME_NBYTES - STEP, [1])]
)
def test_a_member_needs_those_frames_of_its_base_that_hold_its_bytes(
    tmp_path: Path, dtype: str, offset: int, frames: list[int]
) -> None:
    """Where one does, the member is coded against it as it is."""
    pack = Pack(tmp_path / "packs")
    base = pack.add(BASE, dtype)
    member = pack.open(pack.add(BASE[offset:], "Q8_0", BaseRef(base, View(offset, len(BASE) - offset)), BASE))
    against = plan_step(Target(member, 1, memoryview(bytearray(STEP)))).against
    assert against is not None
    assert [piece.frame for piece in against.pieces] == frames
    assert against.direct == (len(frames) == 1)


def test_frames_that_are_read_by_another_step_are_damage(tmp_path: Path) -> None:
    """A catalog that says another type of a blob gives an error, and never other bytes."""
    pack = Pack(tmp_path / "packs")
    blob_id = pack.add(BASE, "Q8_0")
    pack.writer.sync()
    opened = pack.open(blob_id)
    assert bytes(FrameCache(64 << 20).decode(opened, 1)) == BASE[STEP : 2 * STEP]
    object.__setattr__(opened.blob, "step_nbytes", FRAME_NBYTES)
    frames = FrameCache(64 << 20)
    for index in range(3):
        with pytest.raises(PackDamaged):
            frames.decode(opened, index)
