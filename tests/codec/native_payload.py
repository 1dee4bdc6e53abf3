"""Payloads decoded by an instruction set of one's choice, whatever their checksum, into a target between guards."""

from __future__ import annotations

from typing import Final

import numpy as np
import xxhash

from zipfs.codec import _native
from zipfs.codec.contract import Bytes

STANDALONE: Final = 2
BITX: Final = 3
BLOCKS: Final = 4

_GUARD_NBYTES: Final = 64


def decode_payload(
    payload: bytes, base: Bytes | None, nbytes: int, isa: _native.Isa | None = None, alone: int = STANDALONE
) -> bytes | str:
    """The bytes, or what was wrong.  `bitx` if there is a base, else the codec with the id `alone`."""
    area = np.full(nbytes + 2 * _GUARD_NBYTES, 0xEE, np.uint8)
    out = area[_GUARD_NBYTES : _GUARD_NBYTES + nbytes]
    codec_id = alone if base is None else BITX
    wrong = _native.decode_run([(codec_id, payload, 0, base, out, 0, 0)], isa)
    if wrong is not None and wrong[1].endswith("checksum"):
        wrong = _native.decode_run([(codec_id, payload, 0, base, out, 0, xxhash.xxh3_64_intdigest(out.data))], isa)
    assert (area[:_GUARD_NBYTES] == 0xEE).all() and (area[_GUARD_NBYTES + nbytes :] == 0xEE).all()
    return out.tobytes() if wrong is None else wrong[1]
