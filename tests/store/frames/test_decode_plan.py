"""What frames of bases a decoding needs, and what one run can take. No pack is read."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from zipfs.codec import FRAME_NBYTES, Cast
from zipfs.store.frames.decode_plan import Form, Frame, Step, Target, frames_of_bases, plan_step, split
from zipfs.store.frames.open_blob import OpenBlob, opened
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, PackName

FRAMES = 4
NBYTES = FRAMES * FRAME_NBYTES
NO_PACK = cast("Any", None)


def blob(number: int, base: BaseRef | None = None) -> Blob:
    frames = np.full(FRAMES, 100, np.uint32)
    return Blob(BlobId(number), NBYTES, bytes(16), "BF16", (NBYTES // 2,), base, PackName(bytes(16)), 64, frames)


BASE = opened(blob(1), NO_PACK, None)


def member(view: View) -> OpenBlob:
    return opened(blob(2, BaseRef(BlobId(1), view)), NO_PACK, BASE)


def step(source: OpenBlob, number: int) -> Step:
    return plan_step(Target(source, number, memoryview(bytearray(FRAME_NBYTES))))


def test_what_is_coded_standalone_needs_nothing() -> None:
    planned = step(BASE, 1)
    assert planned.against is None
    assert frames_of_bases([planned]) == {}
    assert split([planned], ()) == ([planned], [])
    assert Frame(BASE, 1).form == Form((1, 1), standalone=True)


@pytest.mark.parametrize(
    ("view", "number", "needed", "direct"),
    [
        (View(0, NBYTES), 2, [2], True),
        (View(FRAME_NBYTES, NBYTES - FRAME_NBYTES), 1, [2], True),
        (View(10, NBYTES - 10), 0, [0, 1], False),
        (View(10, NBYTES - 10), 3, [3], False),
        (View(0, FRAME_NBYTES), 1, [], False),
        (View(0, NBYTES, Cast("F32", "BF16")), 0, [0, 1], False),
    ],
)
def test_what_a_frame_is_coded_against(view: View, number: int, needed: list[int], direct: bool) -> None:
    planned = step(member(view), number)
    assert planned.against is not None
    assert planned.against.direct is direct
    assert planned.against.keys() == [(1, frame) for frame in needed]
    assert frames_of_bases([planned, planned]) == {(1, frame): Frame(BASE, frame) for frame in needed}


def test_a_run_takes_what_needs_one_frame_as_it_is_and_the_rest_waits() -> None:
    whole, shifted = member(View(0, NBYTES)), member(View(10, NBYTES - 10))
    standalone, direct, absent, joined = step(BASE, 0), step(whole, 1), step(whole, 2), step(shifted, 0)
    assert split([joined, absent, direct, standalone], {(1, 0), (1, 1)}) == ([direct, standalone], [joined, absent])


def test_zeros_behind_the_end_of_a_base_wait_for_nothing() -> None:
    planned = step(member(View(0, FRAME_NBYTES)), 1)
    assert split([planned], ()) == ([planned], [])
