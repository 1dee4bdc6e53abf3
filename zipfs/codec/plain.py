"""Owns the codecs that see no items: `raw`, which always works, and `zstd`.  Any thread may call."""

from __future__ import annotations

import numpy as np

from zipfs.codec.contract import Bytes, Codec
from zipfs.codec.dtypes import is_float
from zipfs.codec.entropy import compress_matches, decompress
from zipfs.errors import FrameDamaged


def _encode_raw(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> bytes | None:
    return raw.tobytes() if raw.nbytes < limit_nbytes else None


def _decode_raw(payload: Bytes, out: Bytes, base: Bytes | None, item_nbytes: int) -> None:
    if payload.nbytes != out.nbytes:
        raise FrameDamaged(f"raw payload has {payload.nbytes} bytes instead of {out.nbytes}")
    np.copyto(out, payload)


def _encode_zstd(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> bytes | None:
    if is_float(dtype) or not raw.nbytes:
        return None  # 12.48 bits per BF16 weight against 10.6 in planes; planes catch what repeats as well
    payload = compress_matches(raw)
    return payload if len(payload) < limit_nbytes else None


def _decode_zstd(payload: Bytes, out: Bytes, base: Bytes | None, item_nbytes: int) -> None:
    np.copyto(out, decompress(payload, out.nbytes))


RAW = Codec(id=0, name="raw", needs_base=False, encode=_encode_raw, decode=_decode_raw)
ZSTD = Codec(id=1, name="zstd", needs_base=False, encode=_encode_zstd, decode=_decode_zstd)
