"""Damage is told, whatever was damaged: the right bytes or FrameDamaged, never anything else."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.blocks import blocks
from zipfs.codec import HEADER_NBYTES, FrameJob, decode_frames, encode_frame, read_header
from zipfs.codec.registry import CODECS
from zipfs.errors import FrameDamaged

SEED = 0x1234_5678_9ABC_DEF0


def _samples() -> dict[str, tuple[bytes, bytes, bytes]]:
    """Codec name -> (frame, raw bytes, base): one small frame of each codec, and one with stored and zero planes."""
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.05, 301).astype("<f4").tobytes() + b"odd"
    near = (np.frombuffer(base, np.uint8) ^ (rng.random(len(base)) < 0.05)).astype(np.uint8).tobytes()
    halves = (np.frombuffer(base[:-3], "<u4") & 0xFFFF_0000).astype("<u4").tobytes() + b"odd"
    quantised = blocks("Q8_0", 34 * 40 + 5)
    return {
        "raw": (encode_frame(b"not worth coding", "", None, SEED), b"not worth coding", base),
        "zstd": (encode_frame(b"again and " * 30, "", None, SEED), b"again and " * 30, base),
        "standalone": (encode_frame(halves, "F32", None, SEED), halves, base),
        "bitx": (encode_frame(near, "F32", base, SEED), near, base),
        "blocks": (encode_frame(quantised, "Q8_0", None, SEED), quantised, base),
    }


SAMPLES = _samples()


def _decode(frame: bytes, nbytes: int, base: bytes | None, seed: int = SEED) -> bytes:
    out = bytearray(nbytes)
    decode_frames([FrameJob(frame, out, base, seed)])
    return bytes(out)


def _right_or_damaged(frame: bytes, raw: bytes, base: bytes) -> bool:
    try:
        decoded = _decode(frame, len(raw), base)
    except FrameDamaged:
        return False
    assert decoded == raw
    return True


def test_there_is_a_sample_of_every_codec() -> None:
    assert {read_header(frame).codec_name for frame, _, _ in SAMPLES.values()} == {codec.name for codec in CODECS}
    for frame, raw, base in SAMPLES.values():
        assert _decode(frame, len(raw), base) == raw


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_and_byte_is_noticed_or_harmless(name: str) -> None:
    frame, raw, base = SAMPLES[name]
    noticed = 0
    for position in range(len(frame)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(frame)
            damaged[position] ^= mask
            noticed += not _right_or_damaged(bytes(damaged), raw, base)
    assert noticed > 8 * len(frame)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_and_any_longer_frame_is_damage(name: str) -> None:
    frame, raw, base = SAMPLES[name]
    for length in range(len(frame)):
        with pytest.raises(FrameDamaged):
            _decode(frame[:length], len(raw), base)
    for extra in (b"\0", frame, bytes(100)):
        with pytest.raises(FrameDamaged):
            _decode(frame + extra, len(raw), base)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_frame_in_the_wrong_place_is_damage(name: str) -> None:
    frame, raw, base = SAMPLES[name]
    for seed in (0, SEED + 1, SEED ^ (1 << 63)):
        with pytest.raises(FrameDamaged, match="checksum"):
            _decode(frame, len(raw), base, seed)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_a_target_of_another_length_is_damage(name: str, change: int) -> None:
    frame, raw, base = SAMPLES[name]
    with pytest.raises(FrameDamaged, match="expected"):
        _decode(frame, len(raw) + change, base)


def test_a_missing_short_or_wrong_base_is_damage() -> None:
    frame, raw, base = SAMPLES["bitx"]
    for wrong in (None, b"", base[:-1], base + b"\0", raw, bytes(len(base))):
        with pytest.raises(FrameDamaged):
            _decode(frame, len(raw), wrong)


def test_an_unknown_codec_is_named() -> None:
    frame, raw, _ = SAMPLES["raw"]
    with pytest.raises(FrameDamaged, match="unknown codec id 77"):
        _decode(b"\x4d" + frame[1:], len(raw), None)


@settings(deadline=None, max_examples=400)
@given(
    codec=st.integers(0, 5),
    item=st.sampled_from([0, 1, 2, 3, 4, 8, 255]),
    nbytes=st.integers(0, 300),
    payload=st.binary(max_size=300),
)
def test_rubbish_behind_a_plausible_header_is_damage(codec: int, item: int, nbytes: int, payload: bytes) -> None:
    frame = struct.pack("<BBHIQ", codec, item, 0, nbytes, 0) + payload
    with pytest.raises(FrameDamaged):
        _decode(frame, nbytes, bytes(nbytes))


@settings(deadline=None, max_examples=300)
@given(frame=st.binary(max_size=400), nbytes=st.integers(0, 64))
def test_rubbish_is_damage(frame: bytes, nbytes: int) -> None:
    with pytest.raises(FrameDamaged):
        _decode(frame, nbytes, bytes(nbytes))


def _zstd_frame(raw_nbytes: int, payload: bytes) -> bytes:
    return struct.pack("<BBHIQ", 1, 1, 0, raw_nbytes, 0) + payload


def test_a_zstd_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    with pytest.raises(FrameDamaged, match="content size"):
        _decode(_zstd_frame(100, bomb), 100, None)


def test_a_zstd_window_beyond_the_content_is_refused() -> None:
    single_segment = zstandard.ZstdCompressor(level=1).compress(bytes(100))
    # Frame header descriptor without the single-segment flag, 4-byte content size, and a window of 128 MiB.
    wide = single_segment[:4] + b"\x80" + bytes([17 << 3]) + struct.pack("<I", 100) + single_segment[6:]
    assert zstandard.get_frame_parameters(wide).window_size == 1 << 27
    with pytest.raises(FrameDamaged, match="window"):
        _decode(_zstd_frame(100, wide), 100, None)


def test_a_zstd_frame_without_its_length_or_with_a_second_behind_it_is_refused() -> None:
    lengthless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(FrameDamaged, match="content size"):
        _decode(_zstd_frame(100, lengthless), 100, None)
    one = zstandard.ZstdCompressor().compress(bytes(100))
    with pytest.raises(FrameDamaged, match="zstd"):
        _decode(_zstd_frame(100, one + one), 100, None)


def test_reserved_bits_must_be_zero() -> None:
    frame, raw, base = SAMPLES["standalone"]
    with pytest.raises(FrameDamaged, match="reserved"):
        _decode(frame[:2] + b"\1" + frame[3:], len(raw), base)
    assert HEADER_NBYTES == 16
