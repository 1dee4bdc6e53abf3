"""Owns the frame: a 16-byte header around what one codec made of at most a MiB of a blob (see README.md).

Pure: no I/O, no clock.  Any thread may call; the heavy parts release the GIL.  A frame is never longer than its raw
bytes plus the header, and no decoded byte leaves here without its checksum having been compared.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import xxhash

from zipfs.codec.contract import Bytes, Payload, view_bytes
from zipfs.codec.dtypes import item_nbytes
from zipfs.codec.registry import CODECS, codec_by_id
from zipfs.errors import FrameDamaged

if TYPE_CHECKING:
    from typing_extensions import Buffer

FRAME_NBYTES: Final = 1 << 20
"""Raw bytes of every frame of a blob but its last, which may be shorter."""

_HEADER: Final = struct.Struct("<BBHIQ")
HEADER_NBYTES: Final = _HEADER.size
_MAX_RAW_NBYTES: Final = 0xFFFF_FFFF
_ENOUGH: Final = 4
"""Where a base has made a frame so many times smaller, nothing that works without it is tried."""

_SEED_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself: codec, item size and raw length in bytes, XXH3-64 of the decoded bytes."""

    codec_id: int
    codec_name: str
    needs_base: bool
    item_nbytes: int
    raw_nbytes: int
    checksum: int


def encode_frame(raw: Buffer, dtype: str, base: Buffer | None, seed: int) -> bytes:
    """Code `raw` (at most 4 GiB - 1 byte; FRAME_NBYTES by custom) by the codecs that can help; the smallest frame wins.

    `dtype` is a safetensors name, or "" for plain bytes; it steers the coding and is not needed to decode.  `base`
    helps only if it is as long as `raw`; one that does not help is left out, so `needs_base` of the header says
    whether the decoder wants it.  `seed` (taken modulo 2^64) goes into the checksum.  Raises ValueError if `raw` is
    too long.
    """
    raw_bytes = view_bytes(raw)
    if raw_bytes.nbytes > _MAX_RAW_NBYTES:
        raise ValueError(f"a frame cannot hold {raw_bytes.nbytes} bytes")
    base_bytes = _usable_base(raw_bytes, base)
    best: Payload | None = None
    best_id = 0
    for codec in CODECS:
        if codec.needs_base and base_bytes is None:
            continue
        limit_nbytes = raw_bytes.nbytes + 1 if best is None else len(best)
        payload = codec.encode(raw_bytes, dtype, base_bytes, limit_nbytes)
        if payload is not None:
            best, best_id = payload, codec.id
        if best is not None and base_bytes is not None and len(best) < raw_bytes.nbytes // _ENOUGH:
            break
    if best is None:
        raise AssertionError("the raw codec takes any bytes")
    header = _HEADER.pack(best_id, item_nbytes(dtype), 0, raw_bytes.nbytes, _checksum(raw_bytes, seed))
    return b"".join((header, best))


def decode_frame(frame: Buffer, out: Buffer, base: Buffer | None, seed: int) -> None:
    """Decode `frame`, all of it and nothing more, into the writable buffer `out`, whose length is the raw length.

    `base` holds the base's bytes of the same range; codecs that need none ignore it.  Raises FrameDamaged for anything
    that is not exactly right; `out` may hold rubbish then.  ValueError if `out` is read-only, which is the caller's
    mistake.
    """
    frame_bytes, out_bytes = view_bytes(frame), view_bytes(out)
    if not out_bytes.flags.writeable and out_bytes.nbytes:
        raise ValueError("decode_frame needs a writable buffer")
    header = _parse_header(frame_bytes)
    if header.raw_nbytes != out_bytes.nbytes:
        raise FrameDamaged(f"holds {header.raw_nbytes} bytes where {out_bytes.nbytes} were expected")
    base_bytes = None
    if header.needs_base:
        if base is None:
            raise FrameDamaged("its base is missing")
        base_bytes = view_bytes(base)
        if base_bytes.nbytes != out_bytes.nbytes:
            raise FrameDamaged(f"its base has {base_bytes.nbytes} bytes instead of {out_bytes.nbytes}")
    codec_by_id(header.codec_id).decode(frame_bytes[HEADER_NBYTES:], out_bytes, base_bytes, header.item_nbytes)
    if _checksum(out_bytes, seed) != header.checksum:
        raise FrameDamaged("decoded bytes do not match their checksum")


def read_header(frame: Buffer) -> FrameHeader:
    """Read and check a frame's first 16 bytes; FrameDamaged if they cannot be a header."""
    return _parse_header(view_bytes(frame))


def _parse_header(frame_bytes: Bytes) -> FrameHeader:
    if frame_bytes.nbytes < HEADER_NBYTES:
        raise FrameDamaged(f"{frame_bytes.nbytes} bytes are too short for a header")
    codec_id, item, reserved, raw_nbytes, checksum = _HEADER.unpack(frame_bytes[:HEADER_NBYTES].tobytes())
    if reserved:
        raise FrameDamaged("reserved header bits are set")
    if item not in (1, 2, 4, 8):
        raise FrameDamaged(f"item size {item}")
    codec = codec_by_id(codec_id)
    return FrameHeader(codec_id, codec.name, codec.needs_base, item, raw_nbytes, checksum)


def _usable_base(raw: Bytes, base: Buffer | None) -> Bytes | None:
    if base is None or not raw.nbytes:
        return None
    base_bytes = view_bytes(base)
    return base_bytes if base_bytes.nbytes == raw.nbytes else None


def _checksum(decoded: Bytes, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(decoded.data, seed & _SEED_MASK)
