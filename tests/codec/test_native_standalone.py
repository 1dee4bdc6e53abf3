"""Whatever is coded standalone comes back bit for bit, by every instruction set, and in few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codec.native_payload import decode_payload
from tests.codec.reference_standalone import ITEM_NBYTES, decode_standalone
from zipfs.codec import _native, encode_frame, read_header

Bytes = NDArray[np.uint8]

BF16, F16, F32, F64, E4M3, E5M2, I8, I16, I32, I64 = range(1, 11)
ISAS = _native.isas()
LENGTHS = [*range(1, 20), 255, 256, 300, 1000, 4095, 4096, 4097, 8192, 16_391, 65_535, 65_536, 65_537, 131_073, 300_007]
KINDS = ["weights", "random", "zeros", "constant", "mask", "few values", "rows of zeros", "pruned", "small integers"]


def _make(kind: str, layout: int, nbytes: int, seed: int) -> Bytes:
    rng = np.random.default_rng(seed)
    if kind == "weights":
        return _weights(layout, nbytes // ITEM_NBYTES[layout] + 1, rng)[:nbytes]
    random = rng.integers(0, 256, nbytes, dtype=np.uint8)
    places = np.arange(nbytes)
    by_kind: dict[str, Bytes] = {
        "random": random,
        "zeros": np.zeros_like(random),
        "constant": np.full_like(random, 0x3F),
        "mask": (random < 20).view(np.uint8),
        "few values": np.array([0, 7, 255, 128, 3], np.uint8)[random % 5],
        "rows of zeros": np.where(places // 768 % 3 == 0, 0, random).astype(np.uint8),
        "pruned": random * (places // 8 * 2654435761 % 97 < 9).astype(np.uint8),
        "small integers": np.where(places % 8 == 0, random, 0).astype(np.uint8),
    }
    return by_kind[kind]


def _weights(layout: int, count: int, rng: np.random.Generator) -> Bytes:
    values = rng.normal(0, 0.05, count)
    if layout == BF16:
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)
    if layout in (F16, F32, F64):
        return values.astype({F16: "<f2", F32: "<f4", F64: "<f8"}[layout]).view(np.uint8)
    if layout in (E4M3, E5M2):
        exponents, fractions = rng.geometric(0.5, count) * 8, rng.integers(0, 8, count)
        return (np.maximum(64 - exponents, 0) | fractions | rng.integers(0, 2, count) << 7).astype(np.uint8)
    return np.round(values * 1000).astype(f"<i{ITEM_NBYTES[layout]}").view(np.uint8)


def _encoded(raw: Bytes, layout: int, capacity: int, isa: _native.Isa | None = None) -> bytes | None:
    out = np.full(capacity, 0xA5, np.uint8)
    nbytes = _native.standalone_encode(raw.data, layout, out.data, isa)
    return None if nbytes is None else out[:nbytes].tobytes()


@settings(deadline=None, max_examples=300)
@given(
    layout=st.sampled_from(sorted(ITEM_NBYTES)),
    nbytes=st.sampled_from(LENGTHS),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_instruction_set_makes_the_same_bytes_and_reads_them(
    layout: int, nbytes: int, kind: str, seed: int
) -> None:
    raw = _make(kind, layout, nbytes, seed)
    payload, *others = [_encoded(raw, layout, nbytes, isa) for isa in ISAS]
    assert all(other == payload for other in others)
    if payload is not None:
        assert len(payload) <= nbytes
        for isa in ISAS:
            assert decode_payload(payload, None, nbytes, isa) == raw.tobytes()


@settings(deadline=None, max_examples=60)
@given(
    layout=st.sampled_from(sorted(ITEM_NBYTES)),
    nbytes=st.sampled_from([*LENGTHS[:-3], 70_001]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_reference_decoder_agrees(layout: int, nbytes: int, kind: str, seed: int) -> None:
    raw = _make(kind, layout, nbytes, seed)
    payload = _encoded(raw, layout, nbytes)
    if payload is not None:
        assert decode_standalone(payload, nbytes) == raw.tobytes()


@settings(deadline=None, max_examples=300)
@given(
    layout=st.sampled_from(sorted(ITEM_NBYTES)),
    pieces=st.lists(st.tuples(st.binary(min_size=1, max_size=12), st.integers(1, 60)), max_size=20),
    missing=st.integers(0, 40),
)
def test_any_bytes_come_back_whatever_the_room(layout: int, pieces: list[tuple[bytes, int]], missing: int) -> None:
    raw = np.frombuffer(b"".join(piece * times for piece, times in pieces), np.uint8)
    payload = _encoded(raw, layout, max(raw.nbytes - missing, 0))
    if payload is not None:
        assert len(payload) <= raw.nbytes - missing
        assert decode_payload(payload, None, raw.nbytes) == decode_standalone(payload, raw.nbytes) == raw.tobytes()


@pytest.mark.parametrize("isa", ISAS)
def test_the_encoder_keeps_to_its_room(isa: _native.Isa) -> None:
    raw = _make("weights", BF16, 9001, 1)
    payload = _encoded(raw, BF16, raw.nbytes, isa)
    assert payload is not None
    area = np.full(raw.nbytes, 0xEE, np.uint8)
    for capacity in (0, 1, 2, 3, 100, len(payload) - 1, len(payload), len(payload) + 40):
        area[:] = 0xEE
        nbytes = _native.standalone_encode(raw.data, BF16, area[:capacity].data, isa)
        assert (area[capacity:] == 0xEE).all()
        assert nbytes is None or area[:nbytes].tobytes() == payload
        if capacity >= len(payload) + 40:
            assert nbytes == len(payload)


@pytest.mark.parametrize("layout", sorted(ITEM_NBYTES))
def test_every_bit_pattern_of_an_item_comes_back(layout: int) -> None:
    width = ITEM_NBYTES[layout]
    patterns = np.arange(1 << min(8 * width, 16), dtype=np.uint64) << np.uint64(max(8 * width - 16, 0))
    raw = np.tile(patterns.astype(f"<u{width}"), 3).view(np.uint8)
    weights = np.concatenate([raw, np.tile(_make("weights", layout, 4096 * width, 2), 60)])
    payload = _encoded(weights, layout, weights.nbytes)
    assert payload is not None
    for isa in ISAS:
        assert decode_payload(payload, None, weights.nbytes, isa) == weights.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(ITEM_NBYTES))
def test_long_runs_come_back(layout: int) -> None:
    raw = _make("weights", layout, 5_000_003, 3)
    payload = _encoded(raw, layout, raw.nbytes)
    assert payload is not None
    for isa in ISAS:
        assert decode_payload(payload, None, raw.nbytes, isa) == raw.tobytes()


@pytest.mark.parametrize("layout", sorted(ITEM_NBYTES))
@pytest.mark.parametrize("nbytes", [0, 1, 7, 1000, 1 << 20])
def test_random_bytes_are_refused(layout: int, nbytes: int) -> None:
    assert _encoded(_make("random", layout, nbytes, 4), layout, nbytes) is None


def test_a_layout_that_does_not_exist_is_the_callers_mistake() -> None:
    for layout in (-1, 0, 11, 255):
        with pytest.raises(ValueError, match="layout"):
            _native.standalone_encode(b"12345678", layout, bytearray(8))


def _entropy(plane: Bytes) -> float:
    shares = np.bincount(plane, minlength=256) / plane.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _bits(raw: Bytes, layout: int) -> float:
    payload = _encoded(raw, layout, raw.nbytes)
    assert payload is not None
    return len(payload) * 8 * ITEM_NBYTES[layout] / raw.nbytes


def test_bf16_takes_the_entropy_of_its_exponent_and_eight_bits() -> None:
    raw = _make("weights", BF16, 1 << 20, 5)
    exponents = (raw.view("<u2") >> 7 & 0xFF).astype(np.uint8)
    assert _bits(raw, BF16) < _entropy(exponents) + 8 + 0.05


def test_what_is_even_in_a_wider_type_is_not_paid_for() -> None:
    values = np.random.default_rng(6).normal(0, 0.05, 1 << 18).astype("<f4")
    bf16_in_f32 = (values.view("<u4") & 0xFFFF_0000).astype("<u4").view(np.uint8)
    assert _bits(bf16_in_f32, F32) < 10.7
    assert _bits(values.astype("<f8").view(np.uint8), F64) < 27.0
    assert _bits(np.arange(1000, dtype="<i8").repeat(100).view(np.uint8), I64) < 11.0


@pytest.mark.parametrize(("share", "most_bits"), [(0.01, 0.17), (0.05, 0.31), (0.3, 0.9)])
def test_masks_take_less_than_a_bit(share: float, most_bits: float) -> None:
    mask = (np.random.default_rng(7).random(1 << 20) < share).view(np.uint8)
    assert _bits(mask, I8) < most_bits


@pytest.mark.parametrize("width", [512, 1024, 4096])
def test_columns_of_zeros_cost_little_whatever_the_width(width: int) -> None:
    values = np.random.default_rng(5).normal(0, 0.02, (1 << 19) // width * width).astype("<f4").reshape(-1, width)
    kept = width - width // 8
    values[:, kept:] = 0
    padded = (values.view("<u4") >> 16).astype("<u2")
    alone = np.ascontiguousarray(padded[:, :kept])
    assert len(encode_frame(padded.data, "BF16", None, 0)) < 1.03 * len(encode_frame(alone.data, "BF16", None, 0))


def test_zeros_among_weights_cost_little() -> None:
    raw = _make("weights", BF16, 1 << 20, 8)
    items = raw.view("<u2").copy()
    items[np.random.default_rng(9).random(items.size) < 0.9] = 0
    assert _bits(items.view(np.uint8), BF16) < 0.1 * 10.7 + 0.5


@pytest.mark.parametrize(("weights", "most_nbytes"), [(64, 150), (384, 590), (1536, 2150)])
def test_short_tensors_pay_little_for_their_tables(weights: int, most_nbytes: int) -> None:
    raw = _make("weights", BF16, 2 * weights, 10)
    assert len(encode_frame(raw.data, "BF16", None, 0)) < most_nbytes


def test_a_frame_of_weights_is_coded_by_standalone() -> None:
    assert read_header(encode_frame(_make("weights", F16, 1 << 20, 11).data, "F16", None, 0)).codec_name == "standalone"
