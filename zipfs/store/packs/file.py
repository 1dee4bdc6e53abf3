"""An open pack: its bytes, its index, and many byte ranges at once.

A backend derives its own kind of `PackFile` and hands it out. Any thread may use one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from zipfs.errors import PackDamaged
from zipfs.store.disk.stopping import Stop
from zipfs.store.objects.values import PackName
from zipfs.store.packs import pack_format
from zipfs.store.packs.pack_format import PackedBlob


class PackFile(ABC):
    """A pack that is open, or is being written. It stays readable as long as it is referred to, also once deleted."""

    __slots__ = ("name", "where")

    def __init__(self, name: PackName, where: str) -> None:
        self.name = name
        self.where = where
        """What messages call it."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Return the length of the pack."""

    @abstractmethod
    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly `nbytes` bytes; raise PackDamaged where the disk fails or the pack ends before."""

    @staticmethod
    @abstractmethod
    def read_ranges(ranges: Sequence[ReadRange], resident: Sequence[memoryview] = ()) -> None:
        """Fill the buffers of all ranges; raise PackDamaged for the first where the disk fails or the pack ends before.

        All packs are open packs of one backend. Whatever waits does so without holding the interpreter, once for all
        ranges: a thread that gives it up and wants it back waits for the others. The memory of writable buffers in
        `resident`, which are needed next, may be made ready meanwhile.
        """

    @abstractmethod
    def forget_cached(self) -> None:
        """Have the next read come from where the pack is kept, and not from memory."""

    def index(self) -> list[PackedBlob]:
        """Return what the pack holds; raise PackDamaged."""
        head = self.read(0, pack_format.HEADER.size)
        pack_format.check_header(head, self.name, self.where)
        nbytes = self.nbytes
        at = max(0, nbytes - pack_format.TRAILER.size)
        trailer = self.read(at, nbytes - at)
        offset, length, index_sum = pack_format.locate_index(trailer, head, nbytes, self.where)
        return pack_format.decode_index(self.read(offset, length), index_sum, self.name, offset, self.where)


class ReadRange(NamedTuple):
    """Bytes of a pack from `offset` on, as many as `into` takes."""

    pack: PackFile
    offset: int
    into: memoryview


def ends_early(missing_nbytes: int) -> str:
    """Return the reason of PackDamaged for a pack that is shorter than what was asked of it."""
    return f"ends {missing_nbytes} bytes too early"


def verify_stored(file: PackFile, blobs: Sequence[PackedBlob], stop: Stop) -> None:
    """Compare the stored frames of blobs with their checksums, read anew. Raises PackDamaged, Stopped."""
    file.forget_cached()
    for packed in blobs:
        checksum = xxhash.xxh3_64()
        at = packed.blob.pack_offset
        for nbytes in packed.blob.frames.tolist():
            stop.check()
            checksum.update(file.read(at, nbytes))
            at += nbytes
        if checksum.intdigest() != packed.stored_sum:
            raise stored_sum_differs(file, packed)


def stored_sum_differs(file: PackFile, packed: PackedBlob) -> PackDamaged:
    """Return the error for a blob whose stored frames are not those that its index was written for."""
    reason = f"stored bytes of blob {packed.blob.id} do not match their checksum"
    return PackDamaged(file.where, packed.blob.pack_offset, reason)
