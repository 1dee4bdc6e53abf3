"""Damaged payloads of `bitx`: told, or harmless; never a byte outside the buffers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.payload_damage import (
    MASKS,
    check_flip,
    check_inverted_bytes,
    check_lengths,
    check_mutants,
    decode_everywhere,
)
from zipfs.codec import Cast, encode_frame
from zipfs.codec.contract import Bytes

BF16, F16, F32, E4M3, I8, CODED, HALVES, NARROW = 1, 2, 3, 5, 7, 0x10, 0x20, 0x30


def _bf16(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> Bytes:
    return (values.astype(np.float32).view("<u4") >> 16).astype("<u2").view(np.uint8)


def _e4m3_as_f16(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> bytes:
    e4m3, items = np.empty(values.size, np.uint8), np.empty(2 * values.size, np.uint8)
    Cast("F32", "F8_E4M3").apply((16 * values).astype("<f4").data, e4m3.data)
    Cast("F8_E4M3", "F16").apply(e4m3.data, items.data)
    return items.tobytes()


def _samples() -> dict[str, tuple[str, bytes, bytes]]:
    """What it exercises -> (dtype, raw bytes, base)."""
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.05, 40_000).astype("<f4")
    tuned = base + rng.normal(0, 3e-4, base.size).astype("<f4")
    some = np.where(np.arange(base.size) // 256 % 5 == 0, tuned, base)
    far = base + np.where(rng.random(base.size) < 0.1, rng.normal(0, 0.02, base.size), 1e-5).astype("<f4")
    scaled = base + rng.normal(0, 1e-4, base.size).astype("<f4") * 4.0 ** (np.arange(base.size) // 128 % 3)
    halves = [(values.view("<u4") & 0xFFFF_0000).view(np.uint8).tobytes() for values in (tuned, base)]
    return {
        "one lane": ("BF16", _bf16(tuned)[:700].tobytes() + b"x", _bf16(base)[:700].tobytes() + b"y"),
        "four lanes and zero flags": ("BF16", _bf16(some)[:12000].tobytes(), _bf16(base)[:12000].tobytes()),
        "extended literals and literals": ("BF16", _bf16(far)[:5000].tobytes(), _bf16(base)[:5000].tobytes()),
        "extra steps": ("F32", tuned[:400].tobytes(), base[:400].tobytes()),
        "narrow": ("F32", halves[0][:1600], halves[1][:1600]),
        "narrow, all lanes": ("F16", _e4m3_as_f16(tuned[:33_000]), _e4m3_as_f16(base[:33_000])),
        "scale_offsets": ("F16", scaled[:9000].astype("<f2").tobytes(), base[:9000].astype("<f2").tobytes()),
        "64 lanes": ("BF16", _bf16(base + np.float32(1e-6)).tobytes(), _bf16(base).tobytes()),
        "nothing changed": ("BF16", _bf16(base)[:501].tobytes(), _bf16(base)[:501].tobytes()),
    }


SAMPLES = _samples()


def _payload(name: str) -> tuple[bytes, Bytes, bytes]:
    """Payload, base and raw bytes."""
    dtype, raw, base = SAMPLES[name]
    return encode_frame(raw, dtype, base, 3)[16:], np.frombuffer(base, np.uint8), raw


def _same_everywhere(payload: bytes, base: Bytes) -> bytes | str:
    return decode_everywhere(payload, base.nbytes, base)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_byte_of_a_frame_is_told_or_harmless(name: str) -> None:
    dtype, raw, base = SAMPLES[name]
    frame = encode_frame(raw, dtype, base, 3)
    assert frame[0] == 3
    for position in (*range(min(len(frame), 700)), *range(700, len(frame), 23)):
        for mask in MASKS if position < 100 else (1 << position % 8,):
            check_flip(frame, position, mask, raw, base)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_instruction_set_says_the_same_of_damage(name: str) -> None:
    payload, base, _ = _payload(name)
    check_inverted_bytes(payload, range(min(len(payload), 600)), lambda damaged: _same_everywhere(damaged, base))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_and_any_longer_payload_is_told(name: str) -> None:
    payload, base, _ = _payload(name)
    lengths = (*range(min(len(payload), 500)), *range(max(0, len(payload) - 200), len(payload)))
    check_lengths(payload, lengths, lambda damaged: _same_everywhere(damaged, base))


@pytest.mark.parametrize("name", SAMPLES)
def test_another_base_is_told_or_gives_other_bytes(name: str) -> None:
    payload, base, raw = _payload(name)
    for wrong in (np.zeros_like(base), base[::-1].copy(), base ^ np.uint8(0x80)):
        assert _same_everywhere(payload, wrong) != raw


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (bytes([0]), "layout"),
        (bytes([11]), "layout"),
        (bytes([BF16 | 0x40]), "mode"),
        (bytes([BF16 | HALVES]), "mode"),
        (bytes([F32 | NARROW]), "not narrower"),
        (bytes([F32 | NARROW, F32 | CODED]), "not narrower"),
        (bytes([F32 | NARROW, I8 | CODED]), "not narrower"),
        (bytes([F32 | NARROW, 0]), "not narrower"),
        (bytes([BF16 | NARROW, F16]), "not narrower"),
        (bytes([F32 | NARROW, 15]), "not narrower"),
        (bytes([I8 | NARROW, E4M3]), "not narrower"),
        (bytes([15 | NARROW, E4M3]), "layout"),
        (bytes([0 | NARROW, E4M3]), "not narrower"),
        (bytes([F32 | NARROW, BF16 | HALVES]), "mode"),
        (bytes([F32 | NARROW, BF16 | NARROW, E4M3]), "mode"),
        (bytes([F32 | NARROW, BF16, 0]), "length differs"),
        (bytes([BF16, 0]), "length differs"),
        (bytes([BF16 | CODED]), "cut short"),
        (bytes([BF16 | CODED, 0, 8]) + bytes(20), "fewer than two symbols"),
        (bytes([BF16 | CODED]) + bytes(30), "fewer than two symbols"),
        (bytes([I8 | CODED, 0, 0x10]) + bytes(30), "direct"),
    ],
)
def test_each_lie_is_told(payload: bytes, reason: str) -> None:
    told = _same_everywhere(payload, np.zeros(256, np.uint8))
    assert isinstance(told, str) and reason.replace(" differs", "") in told


@settings(deadline=None, max_examples=500)
@given(head=st.integers(0, 255), rest=st.binary(max_size=400), nbytes=st.integers(0, 3000))
def test_rubbish_never_leaves_the_buffers(head: int, rest: bytes, nbytes: int) -> None:
    _same_everywhere(bytes([head]) + rest, np.resize(np.frombuffer(rest + b"\x3c", np.uint8), nbytes))


@pytest.mark.slow
def test_mutants_under_the_sanitizers(tmp_path: Path) -> None:
    check_mutants(tmp_path, "mutate_bitx", "bitx", "cast")
