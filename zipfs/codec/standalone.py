"""Owns the codec `standalone`: items coded without a base, by the native kernel (see README.md).  Any thread may call.

Encoding releases the GIL.  The payload names its own layout, so that decoding needs no dtype.
"""

from __future__ import annotations

from typing import Final

from zipfs.codec._native import standalone_encode
from zipfs.codec.contract import Bytes, Codec, Payload
from zipfs.codec.scratch import Scratch
from zipfs.dtypes import block_code, layout_code

_PROBE_NBYTES: Final = 1 << 16

_scratch = Scratch()


def _encode(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> Payload | None:
    layout = layout_code(dtype)
    if not layout or (block_code(dtype) and limit_nbytes <= raw.nbytes):
        return None  # fields of blocks by themselves are always smaller than their bytes one after the other
    if limit_nbytes <= raw.nbytes and raw.nbytes > 2 * _PROBE_NBYTES:
        # A base has helped already.  A part tells whether coding standalone could be smaller.
        middle = (raw.nbytes // 2) & ~7
        probe = _encode_below(raw[middle : middle + _PROBE_NBYTES], layout, _PROBE_NBYTES)
        if probe is None or len(probe) * raw.nbytes > 1.1 * limit_nbytes * _PROBE_NBYTES:
            return None
    return _encode_below(raw, layout, limit_nbytes)


def _encode_below(raw: Bytes, layout: int, limit_nbytes: int) -> Payload | None:
    out = _scratch.take(max(limit_nbytes - 1, 0))
    nbytes = standalone_encode(raw.data, layout, out.data)
    return None if nbytes is None else out[:nbytes].data


STANDALONE = Codec(id=2, name="standalone", needs_base=False, encode=_encode, unpack=None)
