"""Residuals against a base come back bit for bit, by every instruction set and by the reference decoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.native_payload import decode_payload
from tests.codec.reference_bitx import LAYOUTS, decode_bitx
from tests.codec.reference_cast import FIELDS, cast, is_narrower
from zipfs.codec import _native
from zipfs.codec.contract import Bytes

KINDS = ["random", "equal", "small", "sparse", "stretches", "outliers", "local scale", "signs", "other", "wide"]
LENGTHS = [0, 1, 2, 63, 64, 65, 127, 129, 384, 1000, 1024, 4096, 5001, 20_000, 33_000, 70_001]


def _pair(layout: int, items: int, kind: str, seed: int) -> tuple[Bytes, Bytes]:
    """Raw bytes and base of `items` items and perhaps a tail."""
    rng = np.random.default_rng(seed)
    item, exponent_bits, mantissa = LAYOUTS[layout]
    width = 8 * item
    base = rng.integers(0, 1 << width, items, dtype=np.uint64)
    if kind != "random" and exponent_bits:
        below = np.minimum(rng.geometric(0.5, items), (1 << exponent_bits) // 2 - 1).astype(np.uint64)
        exponent = np.uint64((1 << exponent_bits) // 2) - below
        keep = np.uint64((1 << mantissa) - 1 | 1 << (width - 1))
        base = (base & keep) | exponent << np.uint64(mantissa)
    elif kind != "random":
        base >>= np.uint64(rng.integers(0, width))
    size = min(2.0 ** rng.integers(0, 24), 2.0 ** (width - 3))
    change = np.rint(rng.normal(0, size, items)).astype(np.int64)
    if kind == "equal":
        change[:] = 0
    elif kind == "sparse":
        change *= rng.random(items) < 0.02
    elif kind == "stretches":
        change *= np.resize(np.repeat(rng.random(50) < 0.3, 200), items)
    elif kind == "outliers":
        change = np.where(rng.random(items) < 0.02, rng.integers(-(2**62), 2**62, items), change)
    elif kind == "local scale":
        change = np.where(np.arange(items) // 128 % 3 == 0, change * 16, change)
    words = np.dtype(f"<u{item}")
    raw = (base + change.astype(np.uint64)).astype(words)
    if kind == "signs":
        raw ^= words.type(1 << (width - 1)) * (rng.random(items) < 0.1).astype(words)
    elif kind == "other":
        raw = rng.integers(0, 1 << width, items, dtype=np.uint64).astype(words)
    elif kind == "wide" and layout in FIELDS and layout != 6:
        narrow = int(rng.choice([code for code in FIELDS if is_narrower(code, layout)]))
        held = [_through(words_of.astype(words), layout, narrow) for words_of in (raw, base)]
        return held[0], held[1] if rng.random() < 0.5 else base.astype(words).view(np.uint8)
    tail = rng.integers(0, 256, (2, int(rng.integers(0, item))), dtype=np.uint8)
    return np.append(raw.view(np.uint8), tail[0]), np.append(base.astype(words).view(np.uint8), tail[1])


def _through(items: np.ndarray[tuple[int], np.dtype[np.unsignedinteger]], layout: int, narrow: int) -> Bytes:
    """Items as they come back from a narrower type."""
    return np.frombuffer(cast(cast(items.tobytes(), layout, narrow), narrow, layout), np.uint8)


def _encoded(raw: Bytes, base: Bytes, layout: int, isa: _native.Isa | None = None) -> bytes | None:
    room = np.empty(2 * raw.nbytes + 4096, np.uint8)
    used = _native.bitx_encode(raw, base, layout, room, isa)
    return None if used is None else room[:used].tobytes()


@settings(deadline=None, max_examples=400)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    items=st.sampled_from(LENGTHS),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
)
def test_all_instruction_sets_make_the_same_bytes_and_read_them(layout: int, items: int, kind: str, seed: int) -> None:
    raw, base = _pair(layout, items, kind, seed)
    payload, *others = [_encoded(raw, base, layout, isa) for isa in _native.isas()]
    assert all(other == payload for other in others)
    if payload is not None:
        for isa in _native.isas():
            assert decode_payload(payload, base, base.nbytes, isa) == raw.tobytes()


@settings(deadline=None, max_examples=80)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    items=st.sampled_from([size for size in LENGTHS if size <= 5001] + [33_000]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
)
def test_the_reference_decoder_reads_what_is_encoded(layout: int, items: int, kind: str, seed: int) -> None:
    raw, base = _pair(layout, items, kind, seed)
    payload = _encoded(raw, base, layout)
    if payload is not None:
        assert decode_bitx(payload, base.tobytes()) == raw.tobytes()


@settings(deadline=None, max_examples=200)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    raw=st.binary(min_size=1, max_size=300),
    base=st.binary(min_size=1, max_size=300),
)
def test_any_short_bytes_come_back(layout: int, raw: bytes, base: bytes) -> None:
    raw_bytes, base_bytes = np.frombuffer(raw, np.uint8), np.resize(np.frombuffer(base, np.uint8), len(raw))
    payload = _encoded(raw_bytes, base_bytes, layout)
    if payload is not None:
        assert decode_payload(payload, base_bytes, base_bytes.nbytes) == raw
        assert decode_bitx(payload, base_bytes.tobytes()) == raw


@pytest.mark.parametrize("layout", [1, 2])
@pytest.mark.parametrize("isa", _native.isas())
def test_every_16_bit_pattern_against_many_bases(layout: int, isa: _native.Isa) -> None:
    every = np.arange(1 << 16, dtype="<u2")
    for base in (every, every[::-1].copy(), np.roll(every, 3), every ^ 0x8000, np.zeros_like(every)):
        raw_bytes, base_bytes = every.view(np.uint8), base.view(np.uint8)
        payload = _encoded(raw_bytes, base_bytes, layout, isa)
        if payload is not None:
            assert decode_payload(payload, base_bytes, base_bytes.nbytes, isa) == raw_bytes.tobytes()


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_equal_frame_takes_next_to_nothing(layout: int) -> None:
    raw = np.random.default_rng(1).integers(0, 256, 1 << 20, dtype=np.uint8)
    payload = _encoded(raw, raw.copy(), layout)
    assert payload is not None and len(payload) == 1
    assert decode_payload(payload, raw, raw.nbytes) == raw.tobytes()


def test_one_changed_weight_in_a_frame_takes_few_bytes() -> None:
    base = np.random.default_rng(2).integers(0x3C00, 0x3E00, 1 << 19, dtype=np.uint16)
    raw = base.copy()
    raw[300_000] += 5
    payload = _encoded(raw.view(np.uint8), base.view(np.uint8), 1)
    assert payload is not None and len(payload) < 48
    assert decode_payload(payload, base.view(np.uint8), base.nbytes) == raw.tobytes()


def test_a_short_tensor_has_little_overhead() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(0, 0.05, 384).astype(np.float32)
    tuned = base + rng.normal(0, 3e-4, 384).astype(np.float32)
    raw_bytes, base_bytes = ((values.view("<u4") >> 16).astype("<u2").view(np.uint8) for values in (tuned, base))
    payload = _encoded(raw_bytes, base_bytes, 1)
    assert payload is not None and len(payload) * 8 / 384 < 4.2
    assert decode_payload(payload, base_bytes, base_bytes.nbytes) == raw_bytes.tobytes()


@pytest.mark.parametrize(("layout", "narrow"), [(3, 5), (3, 6), (3, 1), (3, 2), (1, 5), (1, 6), (2, 5), (2, 6), (2, 1)])
@pytest.mark.parametrize("rounded", [True, False])
def test_narrow_values_in_wide_items_take_what_they_take_narrow(layout: int, narrow: int, rounded: bool) -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(0, 1, 1 << 17).astype("<f4")
    tuned = base + rng.normal(0, 0.02, base.size).astype("<f4")
    narrow_base, narrow_raw = (
        cast(cast(values.tobytes(), 3, layout) if layout != 3 else values.tobytes(), layout, narrow)
        for values in (base, tuned)
    )
    raw = np.frombuffer(cast(narrow_raw, narrow, layout), np.uint8)
    # Where the base is not narrow itself, it is rounded to what it would be.
    wide_base = (
        cast(narrow_base, narrow, layout)
        if rounded
        else cast(base.tobytes(), 3, layout)
        if layout != 3
        else base.tobytes()
    )
    alone = _encoded(np.frombuffer(narrow_raw, np.uint8), np.frombuffer(narrow_base, np.uint8), narrow)
    payload = _encoded(raw, np.frombuffer(wide_base, np.uint8), layout)
    assert payload is not None and alone is not None
    assert payload == bytes([layout | 0x30]) + alone
    assert decode_bitx(payload, wide_base) == raw.tobytes()


def test_a_rounded_copy_of_the_base_takes_two_bytes() -> None:
    base = np.random.default_rng(6).normal(0, 1, 1 << 18).astype("<f4").view(np.uint8)
    for narrow in (1, 2, 5, 6):
        raw = _through(base.view("<u4"), 3, narrow)
        assert _encoded(raw, base, 3) == bytes([3 | 0x30, narrow])
        assert decode_payload(bytes([3 | 0x30, narrow]), base, base.nbytes) == raw.tobytes()


def test_a_useless_base_is_noticed() -> None:
    rng = np.random.default_rng(4)
    raw, base = (
        (rng.normal(0, 0.05, 1 << 19).astype(np.float32).view("<u4") >> 16).astype("<u2").view(np.uint8)
        for _ in range(2)
    )
    assert _encoded(raw, base, 1) is None


def test_a_payload_never_outgrows_its_room() -> None:
    raw, base = _pair(1, 5000, "small", 7)
    payload = _encoded(raw, base, 1)
    assert payload is not None
    for room_nbytes in (0, 1, 10, len(payload) // 2, len(payload) - 1):
        room = np.full(room_nbytes + 32, 0xEE, np.uint8)
        assert _native.bitx_encode(raw, base, 1, room[:room_nbytes]) is None
        assert (room[room_nbytes:] == 0xEE).all()
    room = np.empty(len(payload), np.uint8)
    assert _native.bitx_encode(raw, base, 1, room) == len(payload)


def test_wrong_arguments_are_the_callers_mistake() -> None:
    two, three = np.zeros(2, np.uint8), np.zeros(3, np.uint8)
    with pytest.raises(ValueError, match="as long as"):
        _native.bitx_encode(two, three, 1, three)
    with pytest.raises(ValueError, match="as long as"):
        _native.decode_run([(3, b"\1", 0, two, three, 0, 0)])
    with pytest.raises(ValueError, match="layout"):
        _native.bitx_encode(two, two, 11, three)
    with pytest.raises(ValueError, match="instruction set"):
        _native.decode_run([], "sse2")  # type: ignore[arg-type]
