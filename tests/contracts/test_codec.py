"""What every codec must do; one that joins `zipfs.codec.registry.CODECS` is tried here with no further word."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from zipfs.codec import FrameJob, decode_frames
from zipfs.codec.contract import Bytes, Codec, Payload
from zipfs.codec.registry import CODECS, codec_by_id
from zipfs.dtypes import DTYPES, item_nbytes
from zipfs.errors import FrameDamaged

SEED: Final = 11
GUARD: Final = 64
NBYTES: Final = 20_003
"""Odd, so that every item size leaves a tail."""

CONTENTS: Final = ("noise", "weights", "zeros", "text", "near")


def content(kind: str, dtype: str, nbytes: int) -> tuple[Bytes, Bytes]:
    """Return bytes and a base of them."""
    rng = np.random.default_rng(nbytes)
    base = rng.integers(0, 256, nbytes, np.uint8)
    if kind == "zeros":
        return np.zeros(nbytes, np.uint8), base
    if kind == "text":
        return np.resize(np.frombuffer(b"all happy families are alike; ", np.uint8), nbytes).copy(), base
    if kind == "weights":
        floats = rng.normal(0, 0.02, -(-nbytes // 4)).astype("<f4")
        items = floats if item_nbytes(dtype) != 2 else floats.view("<u4") >> 16
        base = np.resize(items.astype(items.dtype).view(np.uint8), nbytes).copy()
    raw = base.copy()
    if kind in ("weights", "near"):
        raw[:: 7 * item_nbytes(dtype)] ^= 1
    return raw, rng.permutation(base) if kind == "noise" else base


def dtype_for(codec: Codec) -> str:
    """Return a type of items that the codec takes."""
    raw, base = content("weights", "Q4_0", NBYTES)
    return "BF16" if encode(codec, raw, "BF16", base) is not None else "Q4_0"


def encode(codec: Codec, raw: Bytes, dtype: str, base: Bytes, limit_nbytes: int | None = None) -> bytes | None:
    """Return a copy of the payload: the codec's own is gone with its next one."""
    limit_nbytes = 8 * raw.nbytes + 4096 if limit_nbytes is None else limit_nbytes
    payload: Payload | None = codec.encode(raw, dtype, base if codec.needs_base else None, limit_nbytes)
    return None if payload is None else bytes(payload)


def frame_of(codec: Codec, payload: bytes, raw: Bytes, dtype: str) -> bytes:
    checksum = xxhash.xxh3_64_intdigest(raw.data, SEED)
    return struct.pack("<BBHIQ", codec.id, item_nbytes(dtype), 0, raw.nbytes, checksum) + payload


def decode(codec: Codec, frame: bytes, nbytes: int, base: Bytes) -> bytes:
    """Return what a frame decodes to; nothing around it may be written."""
    room = bytearray(b"\xa5") * (nbytes + 2 * GUARD)
    try:
        decode_frames(
            [FrameJob(frame, memoryview(room)[GUARD : GUARD + nbytes], base.data if codec.needs_base else None, SEED)]
        )
    finally:
        assert room[:GUARD] == room[GUARD + nbytes :] == b"\xa5" * GUARD
    return bytes(room[GUARD : GUARD + nbytes])


@pytest.fixture(scope="module", params=CODECS, ids=lambda codec: codec.name)
def codec(request: pytest.FixtureRequest) -> Codec:
    found: Codec = request.param
    return found


def test_an_id_names_one_codec(codec: Codec) -> None:
    assert codec_by_id(codec.id) is codec
    assert [other.name for other in CODECS].count(codec.name) == 1
    assert 0 <= codec.id < 256


@pytest.mark.parametrize("dtype", [*DTYPES, "", "X9"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_what_it_takes_comes_back_and_twice_the_same(codec: Codec, dtype: str, kind: str) -> None:
    for nbytes in (0, 1, 2, 7, 8, 63, 64, 65, 1000, NBYTES):
        raw, base = content(kind, dtype, nbytes)
        before, base_before = raw.tobytes(), base.tobytes()
        payload = encode(codec, raw, dtype, base)
        assert (raw.tobytes(), base.tobytes()) == (before, base_before)
        assert encode(codec, raw, dtype, base) == payload
        if payload is not None:
            assert decode(codec, frame_of(codec, payload, raw, dtype), nbytes, base) == before


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_payload_is_below_the_limit_or_there_is_none(codec: Codec, kind: str) -> None:
    dtype = dtype_for(codec)
    raw, base = content(kind, dtype, NBYTES)
    payload = encode(codec, raw, dtype, base)
    lengths = {
        0,
        1,
        10,
        NBYTES // 2,
        NBYTES,
        NBYTES + 1,
        *(() if payload is None else (len(payload), len(payload) + 1)),
    }
    for limit_nbytes in lengths:
        found = encode(codec, raw, dtype, base, limit_nbytes)
        assert found is None or len(found) < limit_nbytes


@given(data=st.data())
@pytest.mark.parametrize("kind", ["weights", "text"])
def test_damage_is_told_or_changes_nothing(codec: Codec, kind: str, data: st.DataObject) -> None:
    dtype = dtype_for(codec)
    raw, base = content(kind, dtype, 3001)
    payload = encode(codec, raw, dtype, base)
    if payload is None:
        return
    frame = bytearray(frame_of(codec, payload, raw, dtype))
    how = data.draw(st.sampled_from(["flip", "cut", "grow", "fill"]))
    at = data.draw(st.integers(0, len(frame) - 1))
    if how == "flip":
        frame[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del frame[at:]
    elif how == "grow":
        frame[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    else:
        frame[at : at + 8] = b"\xff" * len(frame[at : at + 8])
    try:
        decoded = decode(codec, bytes(frame), raw.nbytes, base)
    except FrameDamaged:
        return
    assert decoded == raw.tobytes()


def test_a_wrong_length_seed_or_base_is_told(codec: Codec) -> None:
    taken, dtype = [], dtype_for(codec)
    for kind in CONTENTS:
        raw, base = content(kind, dtype, 3000)
        if (payload := encode(codec, raw, dtype, base)) is not None and kind != "zeros":
            taken.append((payload, raw, base))
    payload, raw, base = taken[0]
    frame = frame_of(codec, payload, raw, dtype)
    for nbytes in (0, 2999, 3001, 6000):
        with pytest.raises(FrameDamaged):
            decode(codec, frame, nbytes, base)
    with pytest.raises(FrameDamaged):
        decode_frames([FrameJob(frame, bytearray(3000), base.data, SEED + 1)])
    if codec.needs_base:
        for wrong in (None, base[:-1].data, (base ^ np.uint8(1)).data):
            with pytest.raises(FrameDamaged):
                decode_frames([FrameJob(frame, bytearray(3000), wrong, SEED)])
