"""Damaged payloads of `blocks`: told, or harmless; never a byte outside the buffers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.native_payload import BLOCKS
from tests.codec.payload_damage import (
    MASKS,
    check_flip,
    check_inverted_bytes,
    check_lengths,
    check_mutants,
    decode_everywhere,
)
from tests.codec.reference_blocks import TYPES
from tests.codec.test_native_blocks import CODES, make_blocks
from zipfs.codec import _native

SAMPLES = {
    "codes of two to a byte": ("Q4_K", make_blocks("quantised", "Q4_K", 8, 1).tobytes() + b"odd"),
    "peaks out": ("Q8_0", make_blocks("peaks", "Q8_0", 40, 2).tobytes()),
    "high bits": ("Q5_1", make_blocks("zero blocks", "Q5_1", 60, 3).tobytes() + b"tail"),
    "fields alone": ("IQ2_XXS", make_blocks("quantised", "IQ2_XXS", 20, 4).tobytes()),
}


def _payload(name: str) -> bytes:
    dtype, raw = SAMPLES[name]
    out = bytearray(3 * len(raw))
    nbytes = _native.blocks_encode(raw, CODES[dtype], out)
    assert nbytes is not None
    return bytes(out[:nbytes])


def _same_everywhere(payload: bytes, nbytes: int) -> bytes | str:
    return decode_everywhere(payload, nbytes, alone=BLOCKS)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_and_byte_of_a_frame_is_told_or_harmless(name: str) -> None:
    _, raw = SAMPLES[name]
    checksum = xxhash.xxh3_64_intdigest(raw, 3)
    frame = struct.pack("<BBHIQ", BLOCKS, 1, 0, len(raw), checksum) + _payload(name)
    for position in range(len(frame)):
        for mask in MASKS:
            check_flip(frame, position, mask, raw)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_instruction_set_says_the_same_of_damage(name: str) -> None:
    _, raw = SAMPLES[name]
    payload = _payload(name)
    check_inverted_bytes(payload, range(len(payload)), lambda damaged: _same_everywhere(damaged, len(raw)))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_and_any_longer_payload_is_told(name: str) -> None:
    _, raw = SAMPLES[name]
    payload = _payload(name)
    check_lengths(payload, range(len(payload)), lambda damaged: _same_everywhere(damaged, len(raw)))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("change", [-1000, -8, -1, 1, 8, 1000, 1 << 20])
def test_a_target_of_another_length_is_told(name: str, change: int) -> None:
    _, raw = SAMPLES[name]
    payload = _payload(name)
    assert isinstance(_same_everywhere(payload, max(len(raw) + change, 0)), str)


Q4_0, Q8_0, Q8_K = CODES["Q4_0"], CODES["Q8_0"], CODES["Q8_K"]
ZERO_SCALES = bytes(4)
"""Two modes and two values: every scale of a frame is 0."""


@pytest.mark.parametrize(
    ("payload", "nbytes", "reason"),
    [
        (b"", 18, "empty"),
        (bytes([0, 0, 0]), 18, "unknown type"),
        (bytes([28, 0, 0]), 18, "unknown type"),
        (bytes([Q4_0]), 17, "no block"),
        (bytes([Q4_0]), 18, "cut short"),
        (bytes([Q4_0, 0, 0]), 22, "cut short"),
        (bytes([Q4_0]) + ZERO_SCALES, 18, "cut short"),
        (bytes([Q4_0]) + ZERO_SCALES + bytes([0]), 18, "classes"),
        (bytes([Q4_0]) + ZERO_SCALES + bytes([9]), 18, "classes"),
        (bytes([Q4_0]) + ZERO_SCALES + bytes([0x11]), 18, "mode of codes"),
        (bytes([Q8_0]) + ZERO_SCALES + bytes([0x21]), 34, "mode of codes"),
        (bytes([Q4_0]) + ZERO_SCALES + bytes([2, 0]), 18, "cut short"),
        (bytes([Q4_0]) + ZERO_SCALES + bytes([1]), 18, "cut short"),
        (bytes([Q4_0]) + ZERO_SCALES + bytes([1, 0, 9, 9]), 18, "length differs"),
        (bytes([Q8_0]) + ZERO_SCALES + bytes([0x11, 0, 5]), 34, "cut short"),
        (bytes([Q8_0]) + ZERO_SCALES + bytes([0x11, 0, 5, 0, 5]), 34, "cut short"),
    ],
)
def test_each_lie_is_told(payload: bytes, nbytes: int, reason: str) -> None:
    told = _same_everywhere(payload, nbytes)
    assert isinstance(told, str) and reason in told


def test_the_smallest_payloads_read_as_written() -> None:
    assert _same_everywhere(bytes([Q4_0]) + ZERO_SCALES + bytes([1, 0, 9]), 37) == "a plane is cut short"
    assert (
        _same_everywhere(bytes([Q4_0]) + ZERO_SCALES + bytes([1, 0, 9, 77]), 37) == (bytes(2) + b"\x09" * 16) * 2 + b"M"
    )
    # All keys are 0: a threshold of 0 is reached, and then nothing is of the first class.
    assert _same_everywhere(bytes([Q4_0]) + ZERO_SCALES + bytes([2, 0, 0, 0, 9]), 18) == bytes(2) + b"\x09" * 16
    # The code -127 at 18: each of the others is 0x45 - 136.
    peak = bytes([Q8_0]) + ZERO_SCALES + bytes([0x11, 0, 0x44, 0, 0x34, 0, 0x55])
    codes = bytearray([0x45 + 256 - 136] * 31)
    assert _same_everywhere(peak, 34) == bytes(2) + _with_peak(codes, 0x35)


def _with_peak(codes: bytearray, told: int) -> bytes:
    codes.insert(told & 31, (127, 129, 0, 128)[told >> 5 & 3])
    return bytes(codes)


@settings(deadline=None, max_examples=400)
@given(
    head=st.sampled_from(
        [
            bytes([Q4_0]) + ZERO_SCALES + bytes([1, 2]),
            bytes([Q8_0]) + ZERO_SCALES + bytes([0x13]),
            bytes([Q8_K, 0]),
            b"",
        ]
    ),
    rest=st.binary(max_size=300),
    nbytes=st.integers(0, 9000),
)
def test_rubbish_never_leaves_the_buffers(head: bytes, rest: bytes, nbytes: int) -> None:
    _same_everywhere(head + rest, nbytes)


@settings(deadline=None, max_examples=200)
@given(code=st.sampled_from(sorted(TYPES)), rest=st.binary(max_size=200), nbytes=st.integers(0, 3000))
def test_rubbish_of_every_type_never_leaves_the_buffers(code: int, rest: bytes, nbytes: int) -> None:
    _same_everywhere(bytes([code, 0, 0]) + rest, nbytes)


@pytest.mark.slow
def test_mutants_under_the_sanitizers(tmp_path: Path) -> None:
    check_mutants(tmp_path, "mutate_blocks", "standalone", "blocks")
