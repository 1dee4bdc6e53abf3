"""Bytes of a pack: header, frames, index, trailer. Pure; `FORMAT.md` has the details.

The index suffices to list and decode what a pack holds. A checksum covers every byte: one per blob, in the index, its
frames; one in the trailer the index, the header and itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xxhash
import zstandard

from zipfs.codec import Cast
from zipfs.errors import PackDamaged, UnknownVersion
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, PackName, is_size

MAGIC: Final = b"ZFSPACK1"
END_MAGIC: Final = b"ZFSPEND1"
VERSION: Final = 4
"""The version of packs that are written. Read are also those of version 1, whose bases are whole, and of version 2, in
which no blob is of a block type."""
HEADER: Final = struct.Struct("<8sII16s")  # magic, version, reserved, name
TRAILER: Final = struct.Struct("<QQQQ8s")  # index offset, index length, index checksum, checksum of the rest, magic
_BLOB_ID_LIMIT: Final = 1 << 40
MAX_INDEX_NBYTES: Final = 1 << 30
MAX_INDEX_TEXT_NBYTES: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class PackedBlob:
    """A blob as its pack's index lists it; `stored_sum` is the XXH3-64 of its frames as they are stored."""

    blob: Blob
    stored_sum: int


def header(name: PackName, version: int = VERSION) -> bytes:
    return HEADER.pack(MAGIC, version, 0, name)


def encode_index(blobs: Sequence[PackedBlob]) -> bytes:
    rows = [
        {
            "id": int(packed.blob.id),
            "nbytes": packed.blob.nbytes,
            "xxh3_128": packed.blob.fingerprint.hex(),
            "dtype": packed.blob.dtype,
            "shape": list(packed.blob.shape),
            "base": None if packed.blob.base is None else _base_json(packed.blob.base),
            "offset": packed.blob.pack_offset,
            "frames": packed.blob.frames.tolist(),
            "stored_sum": packed.stored_sum,
        }
        for packed in blobs
    ]
    return zstandard.compress(json.dumps({"blobs": rows}, separators=(",", ":")).encode(), 9)


def _base_json(base: BaseRef) -> list[object]:
    view = base.view
    return [int(base.blob_id), view.offset, view.nbytes, "" if view.cast is None else str(view.cast)]


def trailer(name: PackName, index_offset: int, index: bytes) -> bytes:
    index_sum = xxhash.xxh3_64_intdigest(index)
    return TRAILER.pack(
        index_offset, len(index), index_sum, _rest_sum(header(name), index_offset, len(index), index_sum), END_MAGIC
    )


def _rest_sum(head: bytes, *fields: int) -> int:
    return xxhash.xxh3_64_intdigest(head + struct.pack("<QQQ", *fields))


def check_header(data: bytes, name: PackName, where: str) -> int:
    """Return the version of pack `name` from its header. Raises PackDamaged, UnknownVersion."""
    if len(data) != HEADER.size:
        raise PackDamaged(where, 0, "shorter than a header")
    magic, version, reserved, found = HEADER.unpack(data)
    if magic != MAGIC or reserved != 0:
        raise PackDamaged(where, 0, "does not begin like a pack")
    if not 1 <= version <= VERSION:
        raise UnknownVersion(f"pack {where}", version, VERSION)
    if found != name:
        raise PackDamaged(where, 0, f"names itself {found.hex()}")
    return int(version)


def locate_index(data: bytes, head: bytes, nbytes: int, where: str) -> tuple[int, int, int]:
    """Return (offset, length, checksum) of the index of a pack of `nbytes` bytes, from its trailer and header.

    Raises PackDamaged.
    """
    at = nbytes - TRAILER.size
    if len(data) != TRAILER.size or at < HEADER.size:
        raise PackDamaged(where, max(at, 0), "too short to hold a trailer")
    offset, length, index_sum, rest_sum, magic = TRAILER.unpack(data)
    if magic != END_MAGIC:
        raise PackDamaged(where, at, "does not end like a pack")
    if rest_sum != _rest_sum(head, offset, length, index_sum):
        raise PackDamaged(where, at, "checksum of header and trailer does not match")
    if length > MAX_INDEX_NBYTES or offset < HEADER.size or offset + length != at:
        raise PackDamaged(where, at, "trailer points outside of the pack")
    return offset, length, index_sum


def decode_index(data: bytes, index_sum: int, name: PackName, index_offset: int, where: str) -> list[PackedBlob]:
    """Decode the index of pack `name`. Raises PackDamaged for one that is altered or does not fit the pack."""
    if xxhash.xxh3_64_intdigest(data) != index_sum:
        raise PackDamaged(where, index_offset, "checksum of the index does not match")
    try:
        if zstandard.frame_content_size(data) > MAX_INDEX_TEXT_NBYTES:
            raise ValueError("absurd length")
        document = json.loads(zstandard.decompress(data))
        packed = [_packed_blob(row, name) for row in document["blobs"]]
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        zstandard.ZstdError,
    ) as error:
        raise PackDamaged(where, index_offset, f"index cannot be read: {error}") from error
    for entry in packed:
        blob = entry.blob
        if blob.pack_offset < HEADER.size or blob.pack_offset + blob.stored_nbytes > index_offset:
            raise PackDamaged(where, index_offset, f"index puts blob {blob.id} outside of the frames")
    return packed


def _packed_blob(row: Any, name: PackName) -> PackedBlob:
    base = row["base"]
    blob = Blob(
        id=BlobId(int(row["id"])),
        nbytes=int(row["nbytes"]),
        fingerprint=bytes.fromhex(row["xxh3_128"]),
        dtype=str(row["dtype"]),
        shape=tuple(int(size) for size in row["shape"]),
        base=None if base is None else _base(base, int(row["nbytes"])),
        pack=name,
        pack_offset=int(row["offset"]),
        frames=np.array(row["frames"], np.uint32),
    )
    if not is_size(blob.nbytes, blob.pack_offset) or not 0 < blob.id < _BLOB_ID_LIMIT or not _is_base(blob.base):
        raise ValueError(f"impossible blob {blob.id}")
    if blob.nbytes <= 0 or len(blob.fingerprint) != 16 or len(blob.frames) != blob.frame_count:
        raise ValueError(f"impossible blob {blob.id}")
    return PackedBlob(blob, int(row["stored_sum"]))


def _is_base(base: BaseRef | None) -> bool:
    return base is None or (0 < base.blob_id < _BLOB_ID_LIMIT and is_size(base.view.offset, base.view.nbytes))


def _base(base: Any, nbytes: int) -> BaseRef:
    """Decode the base of a blob of `nbytes` bytes. In version 1 it has no length: the view is as long as the blob."""
    if len(base) == 2:
        return BaseRef(BlobId(int(base[0])), View(int(base[1]), nbytes))
    blob_id, offset, length, cast = base
    return BaseRef(BlobId(int(blob_id)), View(int(offset), int(length), Cast.from_text(cast) if cast else None))
