"""Owns the frame: a 16-byte header around what one codec made of at most a MiB of a blob (see README.md).

Pure: no I/O, no clock.  Any thread may call; the heavy parts release the GIL.  A frame is never longer than its raw
bytes plus the header.  decode.py owns the way back.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import xxhash

from zipfs.codec.contract import Bytes, Codec, Payload, view_bytes
from zipfs.codec.registry import CODECS, codec_by_id
from zipfs.dtypes import BLOCK_DTYPES, item_nbytes
from zipfs.errors import FrameDamaged

if TYPE_CHECKING:
    from typing_extensions import Buffer

FRAME_NBYTES: Final = 1 << 20
"""Raw bytes that a frame has at most."""

_ALIGNMENT: Final = 64
"""Frames begin at multiples of it: whatever is read or cast frame by frame has whole items of eight bytes."""
_NBYTES_OF_BLOCKS: Final = {
    name: FRAME_NBYTES - FRAME_NBYTES % math.lcm(dtype.block_nbytes, _ALIGNMENT) for name, dtype in BLOCK_DTYPES.items()
}

_HEADER: Final = struct.Struct("<BBHIQ")
HEADER_NBYTES: Final = _HEADER.size
_MAX_RAW_NBYTES: Final = 0xFFFF_FFFF
_ENOUGH: Final = 4
"""Where a base has made a frame so many times smaller, nothing that works without it is tried."""

_ITEM_SIZES: Final = frozenset((1, 2, 4, 8))

SEED_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself: codec, item size and raw length in bytes, XXH3-64 of the decoded bytes."""

    codec_id: int
    codec_name: str
    needs_base: bool
    item_nbytes: int
    raw_nbytes: int
    checksum: int


def frame_nbytes(dtype: str) -> int:
    """Return the raw bytes of every frame of a blob of `dtype` but its last, which may be shorter: whole blocks."""
    return _NBYTES_OF_BLOCKS.get(dtype, FRAME_NBYTES)


def encode_frame(raw: Buffer, dtype: str, base: Buffer | None, seed: int) -> bytes:
    """Encode `raw` (at most 4 GiB - 1 byte; `frame_nbytes` by custom) by those codecs that can help; the smallest wins.

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
    checksum = xxhash.xxh3_64_intdigest(raw_bytes.data, seed & SEED_MASK)
    header = _HEADER.pack(best_id, item_nbytes(dtype), 0, raw_bytes.nbytes, checksum)
    return b"".join((header, best))


def read_header(frame: Buffer) -> FrameHeader:
    """Read and check a frame's first 16 bytes; FrameDamaged if they cannot be a header."""
    codec, item, raw_nbytes, checksum = unpack_header(frame)
    return FrameHeader(codec.id, codec.name, codec.needs_base, item, raw_nbytes, checksum)


def unpack_header(frame: Buffer) -> tuple[Codec, int, int, int]:
    """Return codec, item size, raw length and checksum of a frame, sooner than a FrameHeader. Raises FrameDamaged."""
    try:
        codec_id, item, reserved, raw_nbytes, checksum = _HEADER.unpack_from(frame)
    except struct.error as error:
        raise FrameDamaged(f"{memoryview(frame).nbytes} bytes are too short for a header") from error
    if reserved:
        raise FrameDamaged("reserved header bits are set")
    if item not in _ITEM_SIZES:
        raise FrameDamaged(f"item size {item}")
    return codec_by_id(codec_id), item, raw_nbytes, checksum


def _usable_base(raw: Bytes, base: Buffer | None) -> Bytes | None:
    if base is None or not raw.nbytes:
        return None
    base_bytes = view_bytes(base)
    return base_bytes if base_bytes.nbytes == raw.nbytes else None
