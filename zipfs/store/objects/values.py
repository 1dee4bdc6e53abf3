"""Owns the values that a store is made of: inodes, entries, extents, blobs. All are immutable.

`columns.py` says how they are written and checked.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import NewType

import numpy as np
import numpy.typing as npt

from zipfs.codec import frame_nbytes
from zipfs.store.objects.base_view import View

InodeId = NewType("InodeId", int)
BlobId = NewType("BlobId", int)
PackName = NewType("PackName", bytes)
"""16 random bytes; a pack's file is called by their hexadecimal form."""

ROOT = InodeId(1)
"""Directory that a mount shows at its top."""

INGEST_ROOT = InodeId(2)
"""Directory that a mount shows as `ingest/`."""

NAME_NBYTES_AT_MOST = 255
SIZE_AT_MOST = (1 << 63) - 1


class Kind(enum.StrEnum):
    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "symlink"


class State(enum.StrEnum):
    """Where the content of an inode is."""

    OPEN = "open"
    """In the spool, and may still change. Where the spool file has a hole, its extents say what is there."""
    SEALED = "sealed"
    """In the spool, as of OPEN content; final, waiting to be compressed."""
    STORED = "stored"
    """In packs, listed by extents."""
    NONE = "none"
    """A directory or symlink has no content."""


class Area(enum.IntEnum):
    """Which side of the tree an entry belongs to."""

    SERVED = 0
    """What a mount shows, outside of `ingest/`."""
    PENDING = 1
    """Under `ingest/`, not yet sealed."""
    LINGERING = 2
    """Under `ingest/`, already sealed: a second name for the served inode."""


@dataclass(frozen=True, slots=True)
class Inode:
    """A file, directory or symlink. Sizes in bytes; `nbytes` of an OPEN file is that of its spool file instead."""

    id: InodeId
    kind: Kind
    state: State
    mode: int
    uid: int
    gid: int
    nbytes: int
    mtime_ns: int
    ctime_ns: int
    target: bytes | None = None
    stored_nbytes: int = 0
    sha256: bytes | None = None
    layout_sum: int = 0
    atime_ns: int | None = None
    """None of what was stored before format 3, which did not keep it: its mtime is shown then."""
    spool_id: InodeId | None = None
    """Of a file whose finished content was opened for writing: the number of the spool file that it got for that."""

    @property
    def is_directory(self) -> bool:
        return self.kind is Kind.DIRECTORY

    @property
    def is_spooled(self) -> bool:
        """Return whether the content is in the spool."""
        return self.state is State.OPEN or self.state is State.SEALED

    @property
    def spool_number(self) -> InodeId:
        """Return the number by which the spool file is called, of a file that has one."""
        return self.id if self.spool_id is None else self.spool_id


@dataclass(frozen=True, slots=True)
class Entry:
    parent_id: InodeId
    name: bytes
    inode_id: InodeId
    area: Area


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes [offset, offset + nbytes) of a file are bytes [blob_offset, blob_offset + nbytes) of a blob."""

    offset: int
    nbytes: int
    blob_id: BlobId
    blob_offset: int


@dataclass(frozen=True, slots=True)
class BaseRef:
    """What a blob is coded against: a view of blob `blob_id`."""

    blob_id: BlobId
    view: View


@dataclass(frozen=True, slots=True)
class Blob:
    """A byte string that is kept once, and where. `frames` holds the stored length of each frame, uint32.

    Each frame but the last has `step_nbytes` raw bytes.
    """

    id: BlobId
    nbytes: int
    fingerprint: bytes
    dtype: str
    shape: tuple[int, ...]
    base: BaseRef | None
    pack: PackName
    pack_offset: int
    frames: npt.NDArray[np.uint32]
    step_nbytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_nbytes", frame_nbytes(self.dtype))

    @property
    def stored_nbytes(self) -> int:
        return int(self.frames.sum(dtype=np.uint64))

    def frame_nbytes(self, index: int) -> int:
        """Return the raw length of frame `index`."""
        return min(self.step_nbytes, self.nbytes - index * self.step_nbytes)

    @property
    def frame_count(self) -> int:
        return -(-self.nbytes // self.step_nbytes)

    def frame_seed(self, index: int) -> int:
        return frame_seed(self.id, index)

    def moved(self, pack: PackName, pack_offset: int) -> Blob:
        return replace(self, pack=pack, pack_offset=pack_offset)


def is_name(name: object) -> bool:
    """Return whether a directory can hold a name: a store from somebody else may say `..`, and lead out of the tree."""
    return (
        isinstance(name, bytes)
        and 0 < len(name) <= NAME_NBYTES_AT_MOST
        and b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
    )


def is_size(*values: object) -> bool:
    """Return whether all values are integers from 0 on that 63 bits hold."""
    return all(type(value) is int and 0 <= value <= SIZE_AT_MOST for value in values)


def frame_seed(blob_id: BlobId, index: int) -> int:
    """Return the seed of a frame's checksum: a frame that is found in another's place does not verify."""
    return (blob_id << 24 | index) & 0xFFFF_FFFF_FFFF_FFFF


def frame_count(nbytes: int, dtype: str) -> int:
    """Return how many frames a blob of so many bytes has."""
    return -(-nbytes // frame_nbytes(dtype))
