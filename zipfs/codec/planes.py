"""Owns the payload of byte planes, which `planes` and `bitx` share, and the codec `planes`.  Any thread may call.

Payload: u8 flags (bit 0: items were rotated), then for each plane u8 mode and u32 stored length, then the stored planes
in order, then the odd tail (raw length modulo item size) as it is.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from zipfs.codec.contract import Bytes, Codec
from zipfs.codec.dtypes import has_rotated_planes, is_float, is_tensor, item_nbytes
from zipfs.codec.entropy import compress_literals, compress_matches, decompress
from zipfs.codec.transform import join_planes, split_planes
from zipfs.errors import FrameDamaged

_PLANE: Final = struct.Struct("<BI")
_ZERO, _RAW, _ZSTD = range(3)
_ROTATED: Final = 1
_PROBE_NBYTES: Final = 1 << 16
_MAX_ITEM_NBYTES: Final = 8


def encode_planes(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> bytes | None:
    """Payload of `raw`, XORed with `base` if there is one, or None if it is no shorter than `limit_nbytes`."""
    item = item_nbytes(dtype)
    tail_nbytes = raw.nbytes % item
    whole = raw.nbytes - tail_nbytes
    if not whole:
        return None
    rotate = base is None and has_rotated_planes(dtype)
    planes = split_planes(raw[:whole], None if base is None else base[:whole], item, rotate)
    table = bytes([_ROTATED if rotate else 0])
    stored: list[bytes] = []
    for plane in planes:
        mode, content = _encode_plane(plane, is_float(dtype))
        table += _PLANE.pack(mode, len(content))
        stored.append(content)
    payload = b"".join((table, *stored, raw[whole:].tobytes()))
    return payload if len(payload) < limit_nbytes else None


def decode_planes(payload: Bytes, out: Bytes, base: Bytes | None, item_nbytes: int) -> None:
    """Inverse of encode_planes; FrameDamaged unless flags, modes and lengths are exactly those of a payload."""
    tail_nbytes = out.nbytes % item_nbytes
    whole = out.nbytes - tail_nbytes
    position = 1 + _PLANE.size * item_nbytes
    if payload.nbytes < position:
        raise FrameDamaged("plane table is cut short")
    flags = int(payload[0])
    if flags & ~_ROTATED or (flags and item_nbytes == 1):
        raise FrameDamaged(f"unknown plane flags {flags:#x}")
    planes: list[Bytes | None] = []
    for mode, nbytes in _PLANE.iter_unpack(payload[1:position].tobytes()):
        if nbytes > payload.nbytes - position:
            raise FrameDamaged("a plane runs past the end of the frame")
        planes.append(_decode_plane(mode, payload[position : position + nbytes], whole // item_nbytes))
        position += nbytes
    if payload.nbytes - position != tail_nbytes:
        raise FrameDamaged("payload length differs from what its tables say")
    join_planes(planes, out[:whole], None if base is None else base[:whole], bool(flags & _ROTATED))
    np.copyto(out[whole:], payload[position:])


def _encode_plane(plane: Bytes, of_floats: bool) -> tuple[int, bytes]:
    if not plane.any():
        return _ZERO, b""
    best = compress_literals(plane)
    if not of_floats or _repeats(plane):
        best = min(best, compress_matches(plane), key=len)
    if len(best) < plane.nbytes:
        return _ZSTD, best
    return _RAW, plane.tobytes()


def _repeats(plane: Bytes) -> bool:
    """Whether searching for matches pays, as it does for repeated rows or long runs but seldom for weights.

    On the planes of BF16 weights and of fine-tunes level 3 takes 2 to 25% more bytes and up to 6 times as long.
    """
    if plane.nbytes <= _PROBE_NBYTES:
        return True
    middle = (plane.nbytes - _PROBE_NBYTES) // 2
    probe = plane[middle : middle + _PROBE_NBYTES]
    return len(compress_matches(probe)) < len(compress_literals(probe))


def _decode_plane(mode: int, stored: Bytes, nbytes: int) -> Bytes | None:
    """A plane of `nbytes` bytes; None stands for zeros."""
    if mode == _ZERO and not stored.nbytes:
        return None
    if mode == _RAW and stored.nbytes == nbytes:
        return stored
    if mode == _ZSTD:
        return decompress(stored, nbytes)
    raise FrameDamaged(f"plane of mode {mode} with {stored.nbytes} stored bytes")


def _encode(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> bytes | None:
    if not is_tensor(dtype):
        return None
    if limit_nbytes <= raw.nbytes and raw.nbytes > 2 * _PROBE_NBYTES:
        # A base has helped already.  A part tells whether coding alone could be smaller.
        middle = (raw.nbytes - _PROBE_NBYTES) // 2 // _MAX_ITEM_NBYTES * _MAX_ITEM_NBYTES
        probe = encode_planes(raw[middle : middle + _PROBE_NBYTES], dtype, None, _PROBE_NBYTES)
        if probe is None or len(probe) * raw.nbytes > 1.1 * limit_nbytes * _PROBE_NBYTES:
            return None
    return encode_planes(raw, dtype, None, limit_nbytes)


def _decode(payload: Bytes, out: Bytes, base: Bytes | None, item_nbytes: int) -> None:
    decode_planes(payload, out, None, item_nbytes)


PLANES = Codec(id=2, name="planes", needs_base=False, encode=_encode, decode=_decode)
