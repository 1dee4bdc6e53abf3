"""Owns the codec `blocks`: blocks of weights with scales of their own, coded without a base and field by field, by the
native kernel (see README.md).  Any thread may call.

Encoding releases the GIL.  The payload names its own type of blocks, so that decoding needs no dtype.
"""

from __future__ import annotations

from typing import Final

from zipfs.codec._native import blocks_encode
from zipfs.codec.contract import Bytes, Codec, Payload
from zipfs.codec.scratch import Scratch
from zipfs.dtypes import block_code, block_nbytes

_PROBE_NBYTES: Final = 1 << 16

_scratch = Scratch()


def _encode(raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> Payload | None:
    code = block_code(dtype)
    if not code:
        return None
    if limit_nbytes <= raw.nbytes and raw.nbytes > 2 * _PROBE_NBYTES:
        # A base has helped already.  A part tells whether coding without it could be smaller.
        unit = block_nbytes(dtype)
        middle, probe_nbytes = raw.nbytes // 2 // unit * unit, _PROBE_NBYTES // unit * unit
        probe = _encode_below(raw[middle : middle + probe_nbytes], code, probe_nbytes)
        if probe is None or len(probe) * raw.nbytes > 1.1 * limit_nbytes * probe_nbytes:
            return None
    return _encode_below(raw, code, limit_nbytes)


def _encode_below(raw: Bytes, code: int, limit_nbytes: int) -> Payload | None:
    out = _scratch.take(max(limit_nbytes - 1, 0))
    nbytes = blocks_encode(raw.data, code, out.data)
    return None if nbytes is None else out[:nbytes].data


BLOCKS = Codec(id=4, name="blocks", needs_base=False, encode=_encode, unpack=None)
