"""The weight file of Core ML programs (`weight.bin`): blobs, each behind 64 bytes that describe it.

The file holds no names and no shapes: a program refers to a blob by the offset of its description, and so is a tensor
named here. Source: apple/coremltools, `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`. Pure; any thread may call it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.source import Source
from zipfs.formats.tiling import tile

FORMAT: Final = "coreml"
MAX_BLOBS: Final = 1 << 16

_ALIGNMENT: Final = 64
_HEADER: Final = Struct("<II56s")
_VERSION: Final = 2
_METADATA: Final = Struct("<IIQQ40x")
_SENTINEL: Final = 0xDEADBEEF
_DTYPES: Final = {
    1: "F16", 2: "F32", 3: "U8", 4: "I8", 5: "BF16", 6: "I16", 7: "U16", 8: "U8", 9: "U8", 10: "U8", 11: "U8",
    12: "U8", 13: "U8", 14: "I32", 15: "U32", 16: "F8_E4M3", 17: "F8_E5M2",
}  # fmt: skip
"""BlobDataType -> name; types of less than a byte are bytes."""


def looks_like_coreml(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be of Core ML: a count, a version, and zeros."""
    if nbytes < _HEADER.size + _METADATA.size or len(head) < _HEADER.size:
        return False
    count, version, rest = _HEADER.unpack_from(head)
    return version == _VERSION and 0 < count <= nbytes // _ALIGNMENT and not any(rest)


def parse_coreml(read: Read, nbytes: int) -> Layout:
    """Lay out a weight file of Core ML of `nbytes`: the items of each blob, and what lies between them.

    Raises NotThisFormat, with the reason, if the file is anything else, and whatever `read` raises.
    """
    source = Source(read, nbytes)
    header = source.take(0, min(nbytes, _HEADER.size))
    if not looks_like_coreml(header, nbytes):
        raise NotThisFormat("no header of a weight file")
    count = int.from_bytes(header[:4], "little")
    if count > MAX_BLOBS:
        raise NotThisFormat(f"more than {MAX_BLOBS} blobs")
    blobs: list[Span] = []
    at = _HEADER.size
    for _ in range(count):
        sentinel, type_id, blob_nbytes, offset = _METADATA.unpack(source.take(at, _METADATA.size))
        if sentinel != _SENTINEL or offset != at + _METADATA.size or blob_nbytes > nbytes - offset:
            raise NotThisFormat(f"no description of a blob at {at}")
        dtype = _DTYPES.get(type_id, "")
        if dtype and not blob_nbytes % DTYPES[dtype].block_nbytes:
            shape = (blob_nbytes // DTYPES[dtype].block_nbytes,)
            blobs.append(Span(offset, blob_nbytes, dtype, shape, f"offset_{at}"))
        at = -(-(offset + blob_nbytes) // _ALIGNMENT) * _ALIGNMENT
    return tile(FORMAT, blobs, nbytes)
