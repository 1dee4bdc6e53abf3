"""Whatever is coded block by block comes back bit for bit, by every instruction set, and in few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codec.native_payload import BLOCKS, decode_payload
from tests.codec.reference_blocks import TYPES, decode_blocks
from zipfs.codec import FRAME_NBYTES, _native, encode_frame, read_header
from zipfs.dtypes import BLOCK_DTYPES

Bytes = NDArray[np.uint8]

ISAS = _native.isas()
CODES = {name: dtype.block_code for name, dtype in BLOCK_DTYPES.items()}
NAMES = sorted(BLOCK_DTYPES)
KINDS = ["quantised", "random", "zeros", "constant", "zero blocks", "peaks"]


def make_blocks(kind: str, name: str, count: int, seed: int) -> Bytes:
    """Return `count` blocks; those that are quantised have F16 where a type has them, and codes around the middle."""
    rng = np.random.default_rng(seed)
    block_type = TYPES[CODES[name]]
    shape = (count, block_type.nbytes)
    random = rng.integers(0, 256, shape, np.uint8)
    if kind == "random":
        return random.ravel()
    if kind == "zeros":
        return np.zeros_like(random).ravel()
    if kind == "constant":
        return np.full_like(random, 0x77).ravel()
    if kind == "peaks":
        codes = rng.normal(0, 45, shape).clip(-127, 127).round().astype(np.int8)
        codes[np.arange(count), 4 + rng.integers(0, block_type.nbytes - 4, count)] = rng.choice([127, -127], count)
        random = codes.view(np.uint8)
    else:
        random = _nibbles(rng, shape) | _nibbles(rng, shape) << 4
    for field in block_type.fields:
        if field.layout == 2:
            scales = np.abs(rng.normal(0.02, 0.004, count)).astype("<f2").view(np.uint8).reshape(-1, 2)
            random[:, field.offset : field.offset + 2] = scales
    if kind == "zero blocks":
        random[rng.random(count) < 0.3] = 0
    return random.ravel().astype(np.uint8)


def _nibbles(rng: np.random.Generator, shape: tuple[int, int]) -> Bytes:
    return rng.normal(7.5, 2.6, shape).round().clip(0, 15).astype(np.uint8)


def _encoded(raw: Bytes, name: str, capacity: int | None = None, isa: _native.Isa | None = None) -> bytes | None:
    out = np.full(2 * raw.nbytes + 3000 if capacity is None else capacity, 0xA5, np.uint8)
    nbytes = _native.blocks_encode(raw.data, CODES[name], out.data, isa)
    return None if nbytes is None else out[:nbytes].tobytes()


def test_the_reference_knows_every_type() -> None:
    assert {code: TYPES[code].nbytes for code in TYPES} == {
        dtype.block_code: dtype.block_nbytes for dtype in BLOCK_DTYPES.values()
    }


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(NAMES),
    count=st.sampled_from([1, 2, 3, 15, 64, 65, 300, 1001]),
    tail=st.sampled_from([0, 1, 15]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_instruction_set_makes_the_same_bytes_and_reads_them(
    name: str, count: int, tail: int, kind: str, seed: int
) -> None:
    raw = np.concatenate([make_blocks(kind, name, count, seed), np.arange(tail, dtype=np.uint8)])
    payload, *others = [_encoded(raw, name, isa=isa) for isa in ISAS]
    assert payload is not None
    assert all(other == payload for other in others)
    for isa in ISAS:
        assert decode_payload(payload, None, raw.nbytes, isa, BLOCKS) == raw.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_decoder_agrees(name: str, kind: str) -> None:
    raw = make_blocks(kind, name, 9000 // TYPES[CODES[name]].nbytes, 1)
    payload = _encoded(raw, name)
    assert payload is not None
    assert decode_blocks(payload, raw.nbytes) == raw.tobytes()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "Q2_K", "Q6_K", "MXFP4"])
def test_the_reference_decoder_agrees_on_several_classes(name: str) -> None:
    raw = make_blocks("peaks" if name == "Q8_0" else "quantised", name, 120_000 // TYPES[CODES[name]].nbytes, 2)
    blocks = raw.reshape(-1, TYPES[CODES[name]].nbytes)
    blocks[::2, -12:] &= 0x33
    blocks[::2, :2] = blocks[1, :2]
    payload = _encoded(raw, name)
    assert payload is not None
    assert decode_blocks(payload, raw.nbytes) == raw.tobytes()


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(NAMES),
    pieces=st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), max_size=20),
    missing=st.integers(0, 40),
)
def test_any_bytes_come_back_whatever_the_room(name: str, pieces: list[tuple[bytes, int]], missing: int) -> None:
    raw = np.frombuffer(b"".join(piece * times for piece, times in pieces), np.uint8)
    payload = _encoded(raw, name, max(raw.nbytes - missing, 0))
    if payload is not None:
        assert len(payload) <= raw.nbytes - missing
        assert decode_payload(payload, None, raw.nbytes, alone=BLOCKS) == decode_blocks(payload, raw.nbytes)
        assert decode_blocks(payload, raw.nbytes) == raw.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "IQ3_S"])
def test_the_encoder_keeps_to_its_room(name: str, isa: _native.Isa) -> None:
    raw = make_blocks("peaks", name, 150, 3)
    payload = _encoded(raw, name, isa=isa)
    assert payload is not None
    area = np.full(2 * raw.nbytes, 0xEE, np.uint8)
    for capacity in (0, 1, 2, 3, 100, len(payload) - 1, len(payload), len(payload) + 40):
        area[:] = 0xEE
        nbytes = _native.blocks_encode(raw.data, CODES[name], area[:capacity].data, isa)
        assert (area[capacity:] == 0xEE).all()
        assert nbytes is None or area[:nbytes].tobytes() == payload
        if capacity >= len(payload) + 40:
            assert nbytes == len(payload)


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_is_never_larger_than_its_bytes(name: str) -> None:
    raw = make_blocks("random", name, 3000, 4)
    assert len(encode_frame(raw.data, name, None, 0)) <= 16 + raw.nbytes


@pytest.mark.parametrize("name", NAMES)
def test_zeros_cost_next_to_nothing(name: str) -> None:
    nbytes = FRAME_NBYTES // TYPES[CODES[name]].nbytes * TYPES[CODES[name]].nbytes
    assert len(encode_frame(bytes(nbytes), name, None, 0)) < 64


@pytest.mark.parametrize(
    ("name", "share"), [("Q4_0", 0.9), ("Q4_K", 0.92), ("Q8_0", 0.96), ("MXFP4", 0.9), ("IQ4_XS", 0.92)]
)
def test_codes_around_the_middle_take_fewer_bits(name: str, share: float) -> None:
    raw = make_blocks("peaks" if name == "Q8_0" else "quantised", name, 500_000 // TYPES[CODES[name]].nbytes, 5)
    frame = encode_frame(raw.data, name, None, 0)
    assert read_header(frame).codec_name == "blocks"
    assert len(frame) < share * raw.nbytes


def test_units_with_other_scales_are_coded_by_other_tables() -> None:
    wide, narrow = make_blocks("quantised", "Q4_0", 20_000, 6).reshape(2, -1, 18)
    narrow[:, 2:] = 0x77 + (narrow[:, 2:] & 0x11)
    narrow[:, :2] = np.frombuffer(np.float16(1).tobytes(), np.uint8)
    alone = sum(len(encode_frame(half.tobytes(), "Q4_0", None, 0)) for half in (wide, narrow))
    mixed = np.stack([wide, narrow], axis=1).tobytes()
    assert len(encode_frame(mixed, "Q4_0", None, 0)) < 1.04 * alone


def test_peaks_are_taken_out_where_every_block_has_one() -> None:
    raw = make_blocks("peaks", "Q8_0", 20_000, 7)
    with_peaks = _encoded(raw, "Q8_0")
    raw.reshape(-1, 34)[0, 2:] = 5  # neither a peak nor a zero
    without = _encoded(raw, "Q8_0")
    assert with_peaks is not None and without is not None
    assert len(with_peaks) < len(without) - 500


def test_a_base_that_is_near_wins_over_blocks() -> None:
    raw = make_blocks("quantised", "Q4_K", 3000, 8)
    near, other = raw.copy(), make_blocks("quantised", "Q4_K", 3000, 9)
    near[::90] ^= 1
    assert read_header(encode_frame(raw.data, "Q4_K", near.data, 0)).codec_name == "bitx"
    assert read_header(encode_frame(raw.data, "Q4_K", other.data, 0)).codec_name == "blocks"


def test_a_type_that_does_not_exist_is_the_callers_mistake() -> None:
    for code in (-1, 0, 28, 255):
        with pytest.raises(ValueError, match="type of blocks"):
            _native.blocks_encode(b"12345678", code, bytearray(8))
