"""Owns the codec `bitx`: XOR with the base, in byte planes (after ZipLLM, NSDI '26).  Any thread may call."""

from __future__ import annotations

from zipfs.codec.contract import Bytes, Codec
from zipfs.codec.planes import decode_planes, encode_planes
from zipfs.errors import FrameDamaged


def _encode(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> bytes | None:
    return None if base is None else encode_planes(raw, dtype, base, limit_nbytes)


def _decode(payload: Bytes, out: Bytes, base: Bytes | None, item_nbytes: int) -> None:
    if base is None:
        raise FrameDamaged("its base is missing")
    decode_planes(payload, out, base, item_nbytes)


BITX = Codec(id=3, name="bitx", needs_base=True, encode=_encode, decode=_decode)
