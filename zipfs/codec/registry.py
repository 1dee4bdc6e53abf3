"""Owns the list of codecs.  A new one joins by a line here; nothing outside this package names a codec.

`CODECS` is in the order in which an encoder tries them: each one gets what the best before it reached as its limit.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from zipfs.codec.bitx import BITX
from zipfs.codec.blocks import BLOCKS
from zipfs.codec.contract import Codec
from zipfs.codec.plain import RAW, ZSTD
from zipfs.codec.standalone import STANDALONE
from zipfs.errors import FrameDamaged

CODECS: Final = (BITX, BLOCKS, STANDALONE, ZSTD, RAW)

_BY_ID: Final = MappingProxyType({codec.id: codec for codec in CODECS})
if len(_BY_ID) != len(CODECS):
    raise AssertionError("two codecs share an id")


def codec_by_id(codec_id: int) -> Codec:
    """Return the codec that a frame names. Raises FrameDamaged, naming the id, if there is none."""
    codec = _BY_ID.get(codec_id)
    if codec is None:
        raise FrameDamaged(f"unknown codec id {codec_id}")
    return codec
