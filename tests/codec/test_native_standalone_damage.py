"""Damaged payloads of `standalone`: told, or harmless; never a byte outside the buffers."""

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
from zipfs.codec import encode_frame

BF16, F32, I8 = 1, 3, 7


def _samples() -> dict[str, tuple[str, bytes]]:
    """What it exercises -> (dtype, raw bytes)."""
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.05, 350).astype("<f4")
    pruned = np.where(rng.random(350) < 0.8, 0, weights).astype("<f4")
    return {
        "a raw and a coded plane": ("BF16", (weights.view("<u4") >> 16).astype("<u2").tobytes()),
        "constant planes and a tail": ("F32", (weights.view("<u4") & 0xFFFF_0000).astype("<u4").tobytes() + b"odd"),
        "a mask of zeros": ("F32", pruned.tobytes()),
        "packed items": ("BOOL", (rng.random(900) < 0.07).tobytes()),
        "four streams": ("I8", np.minimum(rng.geometric(0.8, 4100), 20).astype(np.int8).tobytes()),
    }


SAMPLES = _samples()


def _payload(dtype: str, raw: bytes) -> bytes:
    return encode_frame(raw, dtype, None, 3)[16:]


def _same_everywhere(payload: bytes, nbytes: int) -> bytes | str:
    return decode_everywhere(payload, nbytes)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_and_byte_of_a_frame_is_told_or_harmless(name: str) -> None:
    dtype, raw = SAMPLES[name]
    frame = encode_frame(raw, dtype, None, 3)
    assert frame[0] == 2
    for position in range(len(frame)):
        for mask in MASKS:
            check_flip(frame, position, mask, raw)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_instruction_set_says_the_same_of_damage(name: str) -> None:
    dtype, raw = SAMPLES[name]
    payload = _payload(dtype, raw)
    check_inverted_bytes(payload, range(len(payload)), lambda damaged: _same_everywhere(damaged, len(raw)))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_and_any_longer_payload_is_told(name: str) -> None:
    dtype, raw = SAMPLES[name]
    payload = _payload(dtype, raw)
    check_lengths(payload, range(len(payload)), lambda damaged: _same_everywhere(damaged, len(raw)))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("change", [-1000, -8, -1, 1, 8, 1000, 1 << 20])
def test_a_target_of_another_length_is_told_or_filled(name: str, change: int) -> None:
    dtype, raw = SAMPLES[name]
    decoded = _same_everywhere(_payload(dtype, raw), max(len(raw) + change, 0))
    assert isinstance(decoded, str) or abs(change) <= 8  # the bits of a few more items, or fewer, may fill a byte


HALF_AND_HALF = bytes([0x11, 0xED, 0x0C])
"""Code lengths: 0 is the bit 0, 1 is the bit 1, and 16 * 14 + 12 + 18 = 254 other bytes do not occur."""


def _coded(n: int, table: bytes, streams: list[bytes]) -> bytes:
    return (
        bytes([I8, 2]) + table + b"".join(len(stream).to_bytes(2, "little") for stream in streams) + b"".join(streams)
    )


def test_the_smallest_coded_plane_reads_as_written() -> None:
    assert _same_everywhere(_coded(8, HALF_AND_HALF, [b"\xa5"]), 8) == bytes([1, 0, 1, 0, 0, 1, 0, 1])
    assert _same_everywhere(_coded(3, HALF_AND_HALF, [b"\x05"]), 3) == bytes([1, 0, 1])


@pytest.mark.parametrize(
    ("payload", "nbytes", "reason"),
    [
        (b"", 8, "empty"),
        (bytes([0, 0, 0]), 8, "layout"),
        (bytes([11, 0, 0]), 8, "layout"),
        (bytes([0x80]), 8, "layout"),
        (bytes([BF16, 0, 0, 0, 0]), 1, "no item"),
        (bytes([BF16, 0]), 8, "cut short"),
        (bytes([F32, 0, 0, 0]), 7, "cut short"),
        (bytes([BF16, 3, 0, 1, 1]), 8, "mode"),
        (bytes([BF16, 4, 0, 1, 1]), 8, "mode"),
        (bytes([BF16, 0x11, 0, 1, 1]), 8, "mode"),
        (bytes([BF16, 0, 0, 1]), 8, "cut short"),
        (bytes([I8, 1]) + bytes(7), 8, "cut short"),
        (bytes([I8, 1]) + bytes(9), 8, "length differs"),
        (bytes([I8, 5, 0]), 8, "cut short"),
        (bytes([I8, 0x0D]) + bytes(15), 8, "cut short"),
        (bytes([I8, 2]), 8, "code lengths is malformed"),
        (bytes([I8, 2]) + b"\xee" * 128, 8, "code lengths is malformed"),
        (bytes([I8, 2]) + b"\x11" * 128 + b"\x01\x00\xff", 8, "no complete code"),
        (bytes([I8, 2]) + b"\x99" * 128 + b"\x01\x00\xff", 8, "no complete code"),
        (bytes([I8, 2, 0xD1, 0xDE]) + b"\x01\x00\xff", 8, "no complete code"),
        (_coded(8, HALF_AND_HALF, [b"\xa5"])[:6], 8, "cut short"),
        (_coded(8, HALF_AND_HALF, [b"\xa5"])[:7], 8, "past the end"),
        (_coded(8, HALF_AND_HALF, [b""]), 8, "cut short"),
        (_coded(8, HALF_AND_HALF, [b"\xa5\x00"]), 8, "ends elsewhere"),
        (_coded(3, HALF_AND_HALF, [b"\x85"]), 3, "bits that are set"),
        (_coded(8, HALF_AND_HALF, [b"\xa5"]) + b"\0", 8, "length differs"),
        (bytes([0x80 | I8, 0, 0, 0, 0]), 8, "mask"),
        (bytes([0x80 | I8, 0, 2, 0, 0]), 8, "mask"),
        (bytes([0x80 | I8, 1, 1, 1, 1, 1, 1, 1, 1, 255, 0, 0]), 8, "mask"),
    ],
)
def test_each_lie_is_told(payload: bytes, nbytes: int, reason: str) -> None:
    told = _same_everywhere(payload, nbytes)
    assert isinstance(told, str) and reason in told


@settings(deadline=None, max_examples=400)
@given(
    head=st.sampled_from([bytes([I8, 2]) + HALF_AND_HALF, bytes([BF16, 1, 2]), bytes([0x80 | F32, 2]), b""]),
    rest=st.binary(max_size=300),
    nbytes=st.integers(0, 9000),
)
def test_rubbish_never_leaves_the_buffers(head: bytes, rest: bytes, nbytes: int) -> None:
    _same_everywhere(head + rest, nbytes)


@pytest.mark.slow
def test_mutants_under_the_sanitizers(tmp_path: Path) -> None:
    check_mutants(tmp_path, "mutate_standalone", "standalone")
