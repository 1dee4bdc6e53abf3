"""A record of the manifest log: the rows that one transaction left behind, as bytes and back. Pure.

Records say what is, not what was done: replaying one twice changes nothing, and replaying a log from its start gives
the tree at its end. A segment begins with a snapshot of everything (empty in the first one), so any one segment
suffices. `FORMAT.md` has the bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import xxhash
import zstandard

from zipfs.errors import ManifestDamaged
from zipfs.store.objects.values import (
    Area,
    BlobId,
    Entry,
    Extent,
    Inode,
    InodeId,
    Kind,
    PackName,
    State,
    is_name,
    is_possible,
    is_size,
)

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
    """The framed bytes of one record."""
    payload = json.dumps(_to_json(changes), separators=(",", ":")).encode("ascii")
    if len(payload) >= _COMPRESS_FROM_NBYTES:
        payload = zstandard.compress(payload, 3)
        flags |= COMPRESSED
    checksum = xxhash.xxh3_64_intdigest(payload, seed=_seed(seq, flags))
    return RECORD_HEADER.pack(len(payload), flags, seq, checksum) + payload


def segment_header(store_id: bytes) -> bytes:
    return SEGMENT_HEADER.pack(SEGMENT_MAGIC, SEGMENT_VERSION, 0, store_id)


def decode(data: bytes | memoryview, where: str, start: int) -> Iterator[Record]:
    """The records in `data`, whose first byte is at offset `start` of segment `where`.

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


def name_text(name: bytes) -> str:
    """File names are bytes; those that are not UTF-8 are kept as lone surrogates U+DC80..U+DCFF (PEP 383)."""
    return name.decode("utf-8", "surrogateescape")


def name_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_json(changes: Changes) -> dict[str, Any]:
    """Only what is there gets a key."""
    document: dict[str, Any] = {}
    if changes.inodes:
        document["inodes"] = [_inode_json(row) for row in changes.inodes.values() if row is not None]
        document["dropped_inodes"] = [int(key) for key, row in changes.inodes.items() if row is None]
    if changes.entries:
        document["entries"] = [
            [int(row.parent_id), name_text(row.name), int(row.inode_id), int(row.area)]
            for row in changes.entries.values()
            if row is not None
        ]
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
            [int(inode), [[extent.nbytes, int(extent.blob_id), extent.blob_offset] for extent in extents]]
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


def _inode_json(inode: Inode) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": int(inode.id),
        "kind": inode.kind.value,
        "state": inode.state.value,
        "mode": inode.mode,
        "uid": inode.uid,
        "gid": inode.gid,
        "nbytes": inode.nbytes,
        "mtime_ns": inode.mtime_ns,
        "ctime_ns": inode.ctime_ns,
    }
    if inode.target is not None:
        document["target"] = name_text(inode.target)
    if inode.stored_nbytes:
        document["stored_nbytes"] = inode.stored_nbytes
    if inode.sha256 is not None:
        document["sha256"] = inode.sha256.hex()
    if inode.layout_sum:
        document["layout_sum"] = inode.layout_sum
    if inode.atime_ns is not None:
        document["atime_ns"] = inode.atime_ns
    return document


def _from_json(document: Any) -> Changes:
    changes = Changes(next_inode=_size(document.get("next_inode", 0)), next_blob=_size(document.get("next_blob", 0)))
    for row in document.get("inodes", ()):
        inode = _inode_from_json(row)
        changes.inodes[inode.id] = inode
    for inode_id in document.get("dropped_inodes", ()):
        changes.inodes[InodeId(_size(inode_id))] = None
    for parent, name, inode_id, area in document.get("entries", ()):
        key = (InodeId(_size(parent)), name_bytes(name))
        if not is_name(key[1]):
            raise ValueError(f"{key[1]!r} is no name of a file")
        changes.entries[key] = Entry(*key, InodeId(_size(inode_id)), Area(area))
    for parent, name in document.get("dropped_entries", ()):
        changes.entries[InodeId(_size(parent)), name_bytes(name)] = None
    for inode_id, name, value in document.get("xattrs", ()):
        changes.xattrs[InodeId(_size(inode_id)), name_bytes(name)] = None if value is None else bytes.fromhex(value)
    for inode_id, rows in document.get("extents", ()):
        changes.extents[InodeId(_size(inode_id))] = _tile(rows)
    for name in document.get("packs", ()):
        changes.packs[PackName(bytes.fromhex(name))] = True
    for name in document.get("dropped_packs", ()):
        changes.packs[PackName(bytes.fromhex(name))] = False
    return changes


def _tile(rows: list[tuple[int, int, int]]) -> tuple[Extent, ...]:
    """Extents tile their file, so that offsets need not be written down."""
    extents = []
    offset = 0
    for nbytes, blob_id, blob_offset in rows:
        extents.append(Extent(offset, _size(nbytes), BlobId(_size(blob_id)), _size(blob_offset)))
        offset += _size(nbytes)
    _size(offset)
    return tuple(extents)


def _size(value: Any) -> int:
    """Raises ValueError: a log may come from somebody else, and SQLite takes 64 bits."""
    if not is_size(value):
        raise ValueError(f"{value!r} is no size and no id")
    return int(value)


def _inode_from_json(row: Any) -> Inode:
    target, sha256, atime_ns = row.get("target"), row.get("sha256"), row.get("atime_ns")
    inode = Inode(
        id=InodeId(int(row["id"])),
        kind=Kind(row["kind"]),
        state=State(row["state"]),
        mode=int(row["mode"]),
        uid=int(row["uid"]),
        gid=int(row["gid"]),
        nbytes=int(row["nbytes"]),
        mtime_ns=int(row["mtime_ns"]),
        ctime_ns=int(row["ctime_ns"]),
        target=None if target is None else name_bytes(target),
        stored_nbytes=int(row.get("stored_nbytes", 0)),
        sha256=None if sha256 is None else bytes.fromhex(sha256),
        layout_sum=int(row.get("layout_sum", 0)),
        atime_ns=None if atime_ns is None else int(atime_ns),
    )
    if not is_possible(inode):
        raise ValueError(f"inode {inode.id} has attributes that no file can have")
    return inode
