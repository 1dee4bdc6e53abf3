"""Owns the codec `bitx`: residuals against a base, in native code (see README.md).  Any thread may call; the GIL is
released meanwhile.
"""

from __future__ import annotations

from zipfs.codec import _native
from zipfs.codec.contract import Bytes, Codec, Payload
from zipfs.codec.scratch import Scratch
from zipfs.dtypes import layout_code

_scratch = Scratch()


def _encode(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> Payload | None:
    layout = layout_code(dtype)
    if base is None or not layout or limit_nbytes < 1:
        return None
    out = _scratch.take(min(limit_nbytes - 1, raw.nbytes))
    used = _native.bitx_encode(raw, base, layout, out)
    return None if used is None else out[:used].data


BITX = Codec(id=3, name="bitx", needs_base=True, encode=_encode, unpack=None)
