"""Owns the coders that are compared: ours, those of PyPI, and two written from their papers' description.

A coder takes a tensor to a list of stored pieces and back.  What it needs besides (lengths, names) is not counted; the
16-byte headers of our frames, which hold length and checksum, are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from tools.benchmarks.codec.data import Bytes, Case, Tensor
from zipfs.codec import (
    FRAME_NBYTES,
    HEADER_NBYTES,
    FrameJob,
    _native,
    decode_frames,
    encode_frame,
    frame_nbytes,
    item_nbytes,
)
from zipfs.dtypes import block_code, layout_code

Stored = Sequence[bytes]

TENSORX_PIECE_NBYTES: Final = 2 << 20
LMZ_CHUNK_NBYTES: Final = 8 << 20

FRAMES: Final = "zipfs frames"
BITX: Final = "BitX (NumPy, zstd-3)"
_RUN_FRAMES: Final = 8


@dataclass(frozen=True, slots=True)
class Coder:
    """`encode` gives the pieces that are stored.

    `decode` gives the tensor's bytes: in the room that is handed to it, or, if the coder can only allocate, in its own.
    If it `fills_windows`, it also takes a room of a frame, and decodes one frame after the other into it.
    """

    name: str
    encode: Callable[[Tensor], Stored]
    decode: Callable[[Stored, Tensor, Bytes], Bytes]
    fills_windows: bool = False


def coders(case: Case) -> list[Coder]:
    """Every coder that can code the tensors of `case`."""
    ours = [_frames(), *(_kernel(isa) for isa in _native.isas())]
    if case.has_base:
        bitx, tensorx = _planes(BITX, 3, None), _planes("TensorX (NumPy, zstd-1)", 1, TENSORX_PIECE_NBYTES)
        return [*ours, bitx, tensorx]
    return [*ours, *_zipnn(case.dtype), *_lmz(case.dtype), _zstd()]


def missing_peers() -> list[str]:
    return [name for name, module in (("zipnn", "zipnn_core"), ("lmzip", "lmz")) if find_spec(module) is None]


def _frames_of(tensor: Tensor) -> list[slice]:
    """Where frames are cut: they hold whole blocks."""
    return _pieces(tensor.raw.nbytes, frame_nbytes(tensor.dtype))


def _pieces(nbytes: int, piece_nbytes: int) -> list[slice]:
    return [slice(start, min(start + piece_nbytes, nbytes)) for start in range(0, nbytes, piece_nbytes)]


def _place(out: Bytes, cut: slice, tensor: Tensor) -> Bytes:
    """Where a frame is decoded to."""
    return out[cut] if out.nbytes == tensor.raw.nbytes else out[: cut.stop - cut.start]


def _frames() -> Coder:
    """As the store has it: the smallest payload of any codec, header and checksum."""

    def encode(tensor: Tensor) -> Stored:
        base = tensor.base
        return [
            encode_frame(tensor.raw[cut].data, tensor.dtype, None if base is None else base[cut].data, seed)
            for seed, cut in enumerate(_frames_of(tensor))
        ]

    def decode(stored: Stored, tensor: Tensor, out: Bytes) -> Bytes:
        base = tensor.base
        jobs = [
            FrameJob(frame, _place(out, cut, tensor).data, None if base is None else base[cut].data, seed)
            for seed, (frame, cut) in enumerate(zip(stored, _frames_of(tensor), strict=True))
        ]
        run_frames = _RUN_FRAMES if out.nbytes == tensor.raw.nbytes else 1
        for start in range(0, len(jobs), run_frames):
            decode_frames(jobs[start : start + run_frames])
        return out

    return Coder(FRAMES, encode, decode, fills_windows=True)


def _kernel(isa: _native.Isa) -> Coder:
    """One codec, by one instruction set; what it cannot shorten is stored as it is."""
    scratch = np.empty(FRAME_NBYTES, np.uint8)

    def encode(tensor: Tensor) -> Stored:
        layout = layout_code(tensor.dtype)
        stored: list[bytes] = []
        for cut in _frames_of(tensor):
            raw, room = tensor.raw[cut], scratch[: cut.stop - cut.start]
            if tensor.base is None and block_code(tensor.dtype):
                nbytes = _native.blocks_encode(raw.data, block_code(tensor.dtype), room.data, isa)
            elif tensor.base is None:
                nbytes = _native.standalone_encode(raw.data, layout, room.data, isa)
            else:
                nbytes = _native.bitx_encode(raw.data, tensor.base[cut].data, layout, room.data, isa)
            payload = raw if nbytes is None else room[:nbytes]
            checksum = xxhash.xxh3_64_intdigest(raw.data)
            stored.append(checksum.to_bytes(HEADER_NBYTES, "little") + payload.tobytes())
        return stored

    def decode(stored: Stored, tensor: Tensor, out: Bytes) -> Bytes:
        steps: list[_native.Step] = []
        for frame, cut in zip(stored, _frames_of(tensor), strict=True):
            to, base = _place(out, cut, tensor), None if tensor.base is None else tensor.base[cut]
            alone = 4 if block_code(tensor.dtype) else 2
            codec_id = 0 if len(frame) - HEADER_NBYTES == to.nbytes else alone if base is None else 3
            checksum = int.from_bytes(frame[:HEADER_NBYTES], "little")
            steps.append((codec_id, frame, HEADER_NBYTES, base, to, 0, checksum))
        wrong = _native.decode_run(steps, isa)
        assert wrong is None, wrong
        return out

    return Coder(f"zipfs kernel, {isa}", encode, decode, fills_windows=True)


def _planes(name: str, level: int, piece_nbytes: int | None) -> Coder:
    """XOR with the base, one plane for each byte of an item, each plane (or piece of one) by zstd."""
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()

    def encode(tensor: Tensor) -> Stored:
        assert tensor.base is not None
        width = item_nbytes(tensor.dtype)
        stored: list[bytes] = []
        for cut in _pieces(tensor.raw.nbytes, piece_nbytes or tensor.raw.nbytes):
            xor = np.bitwise_xor(tensor.raw[cut], tensor.base[cut]).view(f"<u{width}")
            stored += (compressor.compress((xor >> 8 * plane).astype(np.uint8).data) for plane in range(width))
        return stored

    def decode(stored: Stored, tensor: Tensor, out: Bytes) -> Bytes:
        assert tensor.base is not None
        width = item_nbytes(tensor.dtype)
        pieces = iter(stored)
        for cut in _pieces(out.nbytes, piece_nbytes or out.nbytes):
            words = out[cut].view(f"<u{width}")
            words[:] = 0
            for plane in range(width):
                content = np.frombuffer(decompressor.decompress(next(pieces)), np.uint8)
                words |= content.astype(words.dtype) << words.dtype.type(8 * plane)
            np.bitwise_xor(out[cut], tensor.base[cut], out=out[cut])
        return out

    return Coder(name, encode, decode)


def _zstd() -> Coder:
    compressor, decompressor = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

    def decode(stored: Stored, tensor: Tensor, out: Bytes) -> Bytes:
        return np.frombuffer(decompressor.decompress(stored[0]), np.uint8)

    return Coder("zstd-3", lambda tensor: [compressor.compress(tensor.raw.data)], decode)


# Planes, bit order, byte order and chunk length, as zipnn.ZipNN.compress_torch_numpy_byte passes them to its core.
_ZIPNN: Final = {"BF16": (2, 1, 10, 1 << 18), "F16": (2, 0, 10, 1 << 18), "F32": (4, 1, 220, 1 << 18)}


def _zipnn(dtype: str) -> list[Coder]:
    """ZipNN's compiled core with the arguments of its Python front, which imports torch."""
    if find_spec("zipnn_core") is None or dtype not in _ZIPNN:
        return []
    core: Any = import_module("zipnn_core")
    planes, bit_order, byte_order, chunk_nbytes = _ZIPNN[dtype]
    header = bytes(32)

    def encode(tensor: Tensor) -> Stored:
        raw = tensor.raw.tobytes()  # the core turns signs in what it is given; its front copies as well
        return [core.zipnn_core(header, raw, planes, bit_order, byte_order, 0, chunk_nbytes, 0.95, 10, 1)]

    def decode(stored: Stored, tensor: Tensor, out: Bytes) -> Bytes:
        coded = memoryview(stored[0])[len(header) :]
        decoded = core.combine_dtype(coded, planes, bit_order, byte_order, chunk_nbytes, out.nbytes, 1)
        return np.frombuffer(decoded, np.uint8)

    return [Coder("ZipNN", encode, decode)]


_LMZ_CHUNK: Final = struct.Struct("<BI")


def _lmz(dtype: str) -> list[Coder]:
    """lmz (lmzip on PyPI) in its chunks and at its default level, without its checksums."""
    if find_spec("lmz") is None:
        return []
    codec: Any = import_module("lmz.codec")
    width, kind = item_nbytes(dtype), codec.KIND_BF16 if dtype == "BF16" else codec.KIND_BYTES

    def encode(tensor: Tensor) -> Stored:
        stored: list[bytes] = []
        for cut in _pieces(tensor.raw.nbytes, LMZ_CHUNK_NBYTES):
            parts, chunk_codec, flags, _ = codec.encode_chunk(tensor.raw[cut].data, width, 1, False, kind=kind)
            stored.append(_LMZ_CHUNK.pack(chunk_codec, flags) + b"".join(parts))
        return stored

    def decode(stored: Stored, tensor: Tensor, out: Bytes) -> Bytes:
        for piece, cut in zip(stored, _pieces(out.nbytes, LMZ_CHUNK_NBYTES), strict=True):
            chunk_codec, flags = _LMZ_CHUNK.unpack_from(piece)
            payload = memoryview(piece)[_LMZ_CHUNK.size :]
            decoded = codec.decode_chunk(payload, chunk_codec, width, flags, cut.stop - cut.start, 0, False)
            out[cut] = np.frombuffer(decoded, np.uint8)
        return out

    return [Coder("lmz", encode, decode)]


def entropy_bound(case: Case) -> float | None:
    """Bits a weight, of the values in each frame by themselves; None where no such bound is known here.

    Alone: order-0 entropy of the exponent, and the rest as it is.  Against a base: entropy of the ordered difference
    given the base's exponent.  Tables are not counted; a code for the mantissa, or more context, may come out below it.
    """
    width = item_nbytes(case.dtype)
    if case.dtype not in ("BF16", "F32") or (case.has_base and width != 2):
        return None
    bits = 0.0
    for tensor in case.tensors:
        for cut in _frames_of(tensor):
            items = tensor.raw[cut].view(f"<u{width}")
            if tensor.base is None:
                exponents = (items >> (8 * width - 9)).astype(np.uint8)
                bits += items.size * (_entropy(np.bincount(exponents)) + 8 * width - 8)
            else:
                base = tensor.base[cut].view("<u2")
                exponents = (base >> 7 & 0xFF).astype(np.uint8)
                difference = (_ordered(items) - _ordered(base)) & 0xFFFF
                _, joint = np.unique(exponents.astype(np.int32) << 16 | difference, return_counts=True)
                bits += items.size * (_entropy(joint) - _entropy(np.bincount(exponents)))
    return bits * width / case.nbytes


def _ordered(items: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int32]:
    """Sign and magnitude as a number that grows with the value."""
    magnitudes = (items & 0x7FFF).astype(np.int32)
    return np.where(items >> 15, -magnitudes, magnitudes).astype(np.int32)


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
