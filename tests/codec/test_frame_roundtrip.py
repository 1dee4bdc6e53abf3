"""What is encoded comes back bit for bit, and a frame never outgrows its raw bytes by more than its header."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipfs.codec import FRAME_NBYTES, HEADER_NBYTES, FrameJob, decode_frames, encode_frame, item_nbytes, read_header
from zipfs.codec.contract import Bytes

DTYPES = [
    *("", "BOOL", "U8", "I8", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "U16", "I16", "F16", "BF16"),
    *("U32", "I32", "F32", "C64", "U64", "I64", "F64", "NEW_DTYPE"),
]
LENGTHS = [0, 1, 2, 3, 5, 7, 8, 9, 15, 31, 1000, 4097, 65_541, 200_003]
KINDS = ["random", "near base", "equal to base", "zeros", "constant", "repeating", "small integers"]


def _make(kind: str, nbytes: int, base: Bytes, seed: int) -> Bytes:
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.integers(0, 256, nbytes, dtype=np.uint8)
    if kind == "near base":
        near: Bytes = base ^ (rng.random(nbytes) < 0.1).view(np.uint8)
        return near
    if kind == "equal to base":
        return base.copy()
    if kind == "zeros":
        return np.zeros(nbytes, np.uint8)
    if kind == "constant":
        return np.full(nbytes, 0x80, np.uint8)
    if kind == "repeating":
        return np.resize(rng.integers(0, 256, 768, dtype=np.uint8), nbytes)
    integers: Bytes = (np.arange(nbytes) % 8 == 0).view(np.uint8) * rng.integers(0, 256, nbytes, dtype=np.uint8)
    return integers


def _decoded(frame: bytes, nbytes: int, base: bytes | None, seed: int) -> bytes:
    out = bytearray(b"\xa5" * nbytes)
    decode_frames([FrameJob(frame, out, base, seed)])
    return bytes(out)


@settings(deadline=None, max_examples=300)
@given(
    dtype=st.sampled_from(DTYPES),
    nbytes=st.sampled_from(LENGTHS),
    kind=st.sampled_from(KINDS),
    with_base=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_bytes_come_back(dtype: str, nbytes: int, kind: str, with_base: bool, seed: int) -> None:
    base = np.random.default_rng(seed ^ 1).integers(0, 256, nbytes, dtype=np.uint8)
    raw = _make(kind, nbytes, base, seed).tobytes()
    frame = encode_frame(raw, dtype, base.tobytes() if with_base else None, seed)
    assert len(frame) <= nbytes + HEADER_NBYTES
    assert read_header(frame).raw_nbytes == nbytes
    assert read_header(frame).item_nbytes == item_nbytes(dtype)
    assert _decoded(frame, nbytes, base.tobytes(), seed) == raw


@settings(deadline=None, max_examples=200)
@given(raw=st.binary(max_size=200), base=st.binary(max_size=200), dtype=st.sampled_from(DTYPES))
def test_short_bytes_come_back_whatever_the_base(raw: bytes, base: bytes, dtype: str) -> None:
    frame = encode_frame(raw, dtype, base, 7)
    assert len(frame) <= len(raw) + HEADER_NBYTES
    assert _decoded(frame, len(raw), base if read_header(frame).needs_base else None, 7) == raw


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F64", "F8_E4M3", ""])
def test_a_full_frame_comes_back(dtype: str) -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.05, FRAME_NBYTES // 4).astype(np.float32)
    tuned = weights + rng.normal(0, 1e-4, weights.size).astype(np.float32)
    frame = encode_frame(tuned.tobytes(), dtype, weights.tobytes(), 11)
    assert _decoded(frame, FRAME_NBYTES, weights.tobytes(), 11) == tuned.tobytes()


def test_nan_payloads_infinities_and_signed_zeros_keep_their_bits() -> None:
    every_bf16 = np.arange(1 << 16, dtype="<u2").tobytes()
    for dtype in ("BF16", "F16"):
        for base in (None, every_bf16[::-1]):
            assert _decoded(encode_frame(every_bf16, dtype, base, 0), len(every_bf16), base, 0) == every_bf16


def test_buffers_of_any_kind_and_alignment_are_taken() -> None:
    rng = np.random.default_rng(5)
    weights = rng.normal(0, 0.05, 5000).astype("<f4")
    tuned = weights + np.float32(1e-4)
    area = bytearray(weights.nbytes + 1)
    for base in (weights.data, weights.reshape(50, 100).data, bytearray(weights.tobytes()), weights.tobytes()):
        frame = encode_frame(tuned.data, "F32", base, 1)
        out = memoryview(area)[1:]
        decode_frames([FrameJob(memoryview(b"x" + frame)[1:], out, base, 1)])
        assert bytes(out) == tuned.tobytes()


def test_decoding_goes_straight_into_the_callers_buffer_and_not_beyond() -> None:
    area = bytearray(b"\xee" * 3000)
    frame = encode_frame(bytes(range(250)) * 8, "BF16", None, 0)
    decode_frames([FrameJob(frame, memoryview(area)[500:2500], None, 0)])
    assert bytes(area) == b"\xee" * 500 + bytes(range(250)) * 8 + b"\xee" * 500


def test_a_read_only_target_is_the_callers_mistake() -> None:
    with pytest.raises(BufferError):
        decode_frames([FrameJob(encode_frame(b"abc", "", None, 0), b"abc", None, 0)])


def test_threads_do_not_share_scratch_memory() -> None:
    def roundtrip(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        base = rng.integers(0, 256, 100_000 + seed, dtype=np.uint8)
        raw = (base ^ (rng.random(base.size) < 0.2)).astype(np.uint8).tobytes()
        frame = encode_frame(raw, "BF16", base.tobytes(), seed)
        return _decoded(frame, len(raw), base.tobytes(), seed) == raw

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(roundtrip, range(64)))


def _bf16(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bytes:
    return (values.astype(np.float32).view("<u4") >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize(
    ("sigma", "most_bits", "codec"),
    [(0.0, 0.01, "bitx"), (1e-5, 0.5, "bitx"), (3e-4, 3.2, "bitx"), (1e-3, 4.95, "bitx"), (1.0, 10.6, "bitx")],
)
def test_bits_per_bf16_weight_against_a_base(sigma: float, most_bits: float, codec: str) -> None:
    rng = np.random.default_rng(9)
    weights = rng.normal(0, 0.056, FRAME_NBYTES // 2)
    raw = _bf16(weights + rng.normal(0, sigma, weights.size) * (0.056 if sigma == 1.0 else 1))
    frame = encode_frame(raw, "BF16", _bf16(weights), 0)
    assert len(frame) * 8 / weights.size <= most_bits
    assert read_header(frame).codec_name == codec


def test_a_useless_base_costs_nothing() -> None:
    rng = np.random.default_rng(10)
    raw, other = (_bf16(rng.normal(0, 0.05, 50_000)) for _ in range(2))
    assert encode_frame(raw, "BF16", other, 0) == encode_frame(raw, "BF16", None, 0)
    assert encode_frame(raw, "BF16", raw[:-2], 0) == encode_frame(raw, "BF16", None, 0)


def test_zeros_are_coded_standalone_although_a_base_would_help() -> None:
    rng = np.random.default_rng(11)
    base = _bf16(rng.normal(0, 0.05, FRAME_NBYTES // 2))
    frame = encode_frame(bytes(FRAME_NBYTES), "BF16", base, 0)
    assert not read_header(frame).needs_base
    assert len(frame) < 64


def test_rows_that_repeat_are_found_in_the_planes_of_floats() -> None:
    row = np.random.default_rng(12).normal(0, 0.05, 384)
    frame = encode_frame(_bf16(np.tile(row, 1000)), "BF16", None, 0)
    assert len(frame) < 2000
