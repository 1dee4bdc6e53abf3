"""Owns the bytes of the manifest log's records, each the rows that one transaction left behind. Pure.

Records say what is, not what was done: replaying one twice changes nothing, and replaying a log from its start gives
the tree at its end. A segment begins with a snapshot of everything (empty in the first one), so any one segment
suffices. `FORMAT.md` has the bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import xxhash
import zstandard

from zipfs.errors import ManifestDamaged
from zipfs.store.objects.columns import ENTRIES, EXTENTS, INODES, name_bytes, name_text, size_of_json
from zipfs.store.objects.values import Entry, Extent, Inode, InodeId, PackName

SEGMENT_MAGIC: Final = b"ZFSMANI1"
SEGMENT_HEADER: Final = struct.Struct("<8sII16s")  # magic, version, reserved, store id
SEGMENT_VERSION: Final = 1

RECORD_HEADER: Final = struct.Struct("<IIQQ")  # payload length, flags, seq, checksum
SEQ_LIMIT: Final = 1 << 56
MAX_PAYLOAD_NBYTES: Final = 1 << 30
MAX_TEXT_NBYTES: Final = 1 << 32
COMPRESSED: Final = 1
SNAPSHOT: Final = 2
SNAPSHOT_END: Final = 4
_KNOWN_FLAGS: Final = COMPRESSED | SNAPSHOT | SNAPSHOT_END
_COMPRESS_FROM_NBYTES: Final = 512


@dataclass(slots=True)
class Changes:
    """Rows written and dropped by one transaction; `None` for a dropped one."""

    inodes: dict[InodeId, Inode | None] = field(default_factory=dict)
    entries: dict[tuple[InodeId, bytes], Entry | None] = field(default_factory=dict)
    xattrs: dict[tuple[InodeId, bytes], bytes | None] = field(default_factory=dict)
    extents: dict[InodeId, tuple[Extent, ...]] = field(default_factory=dict)
    packs: dict[PackName, bool] = field(default_factory=dict)
    """Packs added (True) and dropped (False); the index of a pack says which blobs it holds."""
    next_inode: int = 0
    """Ids below these are taken; 0 says nothing."""
    next_blob: int = 0

    def __bool__(self) -> bool:
        return bool(self.inodes or self.entries or self.xattrs or self.extents or self.packs)


@dataclass(frozen=True, slots=True)
class Record:
    seq: int
    flags: int
    changes: Changes
    end: int
    """Offset in the segment of the byte after the record."""


def encode(changes: Changes, seq: int, flags: int = 0) -> bytes:
    """Return the framed bytes of one record."""
    payload = json.dumps(_to_json(changes), separators=(",", ":")).encode("ascii")
    if len(payload) >= _COMPRESS_FROM_NBYTES:
        payload = zstandard.compress(payload, 3)
        flags |= COMPRESSED
    checksum = xxhash.xxh3_64_intdigest(payload, seed=_seed(seq, flags))
    return RECORD_HEADER.pack(len(payload), flags, seq, checksum) + payload


def segment_header(store_id: bytes) -> bytes:
    return SEGMENT_HEADER.pack(SEGMENT_MAGIC, SEGMENT_VERSION, 0, store_id)


def decode(data: bytes | memoryview, where: str, start: int) -> Iterator[Record]:
    """Yield the records in `data`, whose first byte is at offset `start` of segment `where`.

    Raises ManifestDamaged, which names the offset, at the first record that is cut short or altered. Where that is the
    end of the log, it is a record whose writing was interrupted.
    """
    view = memoryview(data)
    at = 0
    while at < len(view):
        if at + RECORD_HEADER.size > len(view):
            raise ManifestDamaged(where, start + at, "cut short in a record's header")
        nbytes, flags, seq, checksum = RECORD_HEADER.unpack_from(view, at)
        if nbytes > MAX_PAYLOAD_NBYTES or flags & ~_KNOWN_FLAGS or seq >= SEQ_LIMIT:
            raise ManifestDamaged(where, start + at, "impossible record header")
        payload = view[at + RECORD_HEADER.size : at + RECORD_HEADER.size + nbytes]
        if len(payload) != nbytes:
            raise ManifestDamaged(where, start + at, "cut short in a record")
        if xxhash.xxh3_64_intdigest(payload, seed=_seed(seq, flags)) != checksum:
            raise ManifestDamaged(where, start + at, "checksum of a record does not match")
        end = at + RECORD_HEADER.size + nbytes
        try:
            changes = _from_json(_text(payload, flags))
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
            zstandard.ZstdError,
        ) as error:
            raise ManifestDamaged(where, start + at, f"record cannot be read: {error}") from error
        yield Record(seq, flags, changes, start + end)
        at = end


def _seed(seq: int, flags: int) -> int:
    return (seq << 8 | flags) & 0xFFFF_FFFF_FFFF_FFFF


def _text(payload: memoryview, flags: int) -> Any:
    if not flags & COMPRESSED:
        return json.loads(bytes(payload))
    if zstandard.frame_content_size(payload) > MAX_TEXT_NBYTES:
        raise ValueError("absurd length")
    return json.loads(zstandard.decompress(payload))


def _to_json(changes: Changes) -> dict[str, Any]:
    """Return the document of a record; only what is there gets a key."""
    document: dict[str, Any] = {}
    if changes.inodes:
        document["inodes"] = [INODES.to_json(row) for row in changes.inodes.values() if row is not None]
        document["dropped_inodes"] = [int(key) for key, row in changes.inodes.items() if row is None]
    if changes.entries:
        document["entries"] = [ENTRIES.to_json_list(row) for row in changes.entries.values() if row is not None]
        document["dropped_entries"] = [
            [int(parent), name_text(name)] for (parent, name), row in changes.entries.items() if row is None
        ]
    if changes.xattrs:
        document["xattrs"] = [
            [int(inode), name_text(name), None if value is None else value.hex()]
            for (inode, name), value in changes.xattrs.items()
        ]
    if changes.extents:
        document["extents"] = [
            [int(inode), [EXTENTS.to_json_list(extent)[1:] for extent in extents]]
            for inode, extents in changes.extents.items()
        ]
    if changes.packs:
        document["packs"] = [name.hex() for name, added in changes.packs.items() if added]
        document["dropped_packs"] = [name.hex() for name, added in changes.packs.items() if not added]
    if changes.next_inode:
        document["next_inode"] = changes.next_inode
    if changes.next_blob:
        document["next_blob"] = changes.next_blob
    return {key: value for key, value in document.items() if value != []}


def _from_json(document: Any) -> Changes:
    changes = Changes(
        next_inode=size_of_json(document.get("next_inode", 0)), next_blob=size_of_json(document.get("next_blob", 0))
    )
    for row in document.get("inodes", ()):
        inode = INODES.from_json(row)
        changes.inodes[inode.id] = inode
    for inode_id in document.get("dropped_inodes", ()):
        changes.inodes[_inode_id(inode_id)] = None
    for row in document.get("entries", ()):
        entry = ENTRIES.from_json_list(row)
        changes.entries[entry.parent_id, entry.name] = entry
    for parent, name in document.get("dropped_entries", ()):
        changes.entries[_inode_id(parent), name_bytes(name)] = None
    for inode_id, name, value in document.get("xattrs", ()):
        changes.xattrs[_inode_id(inode_id), name_bytes(name)] = None if value is None else bytes.fromhex(value)
    for inode_id, rows in document.get("extents", ()):
        changes.extents[_inode_id(inode_id)] = _tile(rows)
    for name in document.get("packs", ()):
        changes.packs[PackName(bytes.fromhex(name))] = True
    for name in document.get("dropped_packs", ()):
        changes.packs[PackName(bytes.fromhex(name))] = False
    return changes


def _inode_id(value: Any) -> InodeId:
    return InodeId(size_of_json(value))


def _tile(rows: list[Sequence[Any]]) -> tuple[Extent, ...]:
    """Return extents that tile their file, so that the log need not have their offsets."""
    extents = []
    offset = 0
    for row in rows:
        extent = EXTENTS.from_json_list([offset, *row])
        extents.append(extent)
        offset += extent.nbytes
    size_of_json(offset)
    return tuple(extents)
