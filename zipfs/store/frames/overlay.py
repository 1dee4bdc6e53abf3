"""A file in the spool over the older version of it that is stored.

When stored content is opened for writing, nothing of it is copied: its spool file begins as one hole of the same size,
and where that has a hole the older version shows through. What is written fills whole blocks, so a block is either one
of the spool file or one of the older version. Which it is, the file system of the spool remembers, together with the
bytes: a kill leaves nothing that contradicts them, and a power cut at worst the older bytes. A copy of the file does
not remember it: most programs write zeros where there are holes, or holes where there are zeros. So the file says which
one on its disk it is, and a copy is refused.

Any thread may call. Whoever writes excludes other writers of the same file.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from zipfs.errors import CatalogDamaged, Damaged
from zipfs.store.disk.files import read_at
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import BlobId, Extent

BLOCK_NBYTES: Final = 4096
"""What a write fills at least, so that a file system keeps a hole apart from it: part of the format, whatever pages the
machine has. Where larger ones make whole pages of a file, `keeps_holes` finds out.
"""
_PROBED_NBYTES: Final = 64 * BLOCK_NBYTES
_SHOWN_NBYTES: Final = 1 << 20
"""A shorter range that shows through is stored anew with what is around it."""
_OWN: Final = "user.zipfs.inode"
"""Attribute of a spool file with holes that mean something: its inode on the disk, in decimal digits."""


class Bytes(Protocol):
    """Content that can be read."""

    @property
    def nbytes(self) -> int: ...

    def read(self, offset: int, nbytes: int) -> bytes | memoryview: ...


class Older:
    """The older version of a file, as far as it still shows through: truncation ends it sooner, for good."""

    def __init__(self, content: Bytes) -> None:
        self.content = content
        self.nbytes = content.nbytes

    def clip(self, nbytes: int) -> None:
        """Let nothing show through from `nbytes` on."""
        self.nbytes = min(self.nbytes, nbytes)

    def read(self, offset: int, nbytes: int) -> bytes | memoryview:
        """Read bytes as far as they show through, and zeros behind."""
        there = max(0, min(nbytes, self.nbytes - offset))
        if there == nbytes:
            return self.content.read(offset, nbytes)
        found = bytearray(nbytes)
        found[:there] = self.content.read(offset, there) if there else b""
        return memoryview(found)

    def close(self) -> None:
        """Let go of it."""


class StoredBytes:
    """The content of a stored file, decoded where it is asked for: nothing is read ahead."""

    def __init__(self, frames: FrameCache, extents: Sequence[Extent], blobs: Mapping[BlobId, OpenBlob]) -> None:
        """Raises CatalogDamaged for extents that leave a gap, overlap or are empty."""
        self._frames = frames
        self._extents = extents
        self._offsets = [extent.offset for extent in extents]
        self._blobs = blobs
        self.nbytes = 0
        for extent in extents:
            if extent.offset != self.nbytes or extent.nbytes <= 0:
                raise CatalogDamaged(f"an extent at {extent.offset} does not follow the one before it")
            self.nbytes += extent.nbytes

    def read(self, offset: int, nbytes: int) -> bytes | memoryview:
        """Read bytes, fewer only at the end. Raises Damaged, CatalogDamaged."""
        found = bytearray(max(0, min(nbytes, self.nbytes - offset)))
        at = 0
        while at < len(found):
            extent = self._extents[bisect_right(self._offsets, offset + at) - 1]
            skipped = offset + at - extent.offset
            taken = min(extent.nbytes - skipped, len(found) - at)
            part = self._frames.range(self._blobs[extent.blob_id], extent.blob_offset + skipped, taken)
            found[at : at + taken] = part
            at += taken
        return memoryview(found)

    def extents_in(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of a range that lies within the content."""
        for extent in self._extents[bisect_right(self._offsets, start) - 1 : bisect_right(self._offsets, stop - 1)]:
            begin, end = max(start, extent.offset), min(stop, extent.offset + extent.nbytes)
            yield Extent(begin, end - begin, extent.blob_id, extent.blob_offset + begin - extent.offset)

    def blob_nbytes(self, blob_id: BlobId) -> int:
        """Return the length of a blob that an extent is of."""
        return self._blobs[blob_id].blob.nbytes


def shown_through(fd: int, nbytes: int, older: Older) -> list[Extent]:
    """Return the extents of the older version that show through a file of so many bytes, in order.

    Short ones are left out, and those of blobs of which less than half is still in use here: they would be kept whole.
    """
    stored = older.content
    if not isinstance(stored, StoredBytes):
        return []
    holes = [(start, stop) for start, stop, hole in ranges(fd, 0, min(nbytes, older.nbytes)) if hole]
    shown = [extent for hole in holes for extent in stored.extents_in(*hole)]
    used: Counter[BlobId] = Counter()
    for extent in shown:
        used[extent.blob_id] += extent.nbytes
    return [
        extent
        for extent in shown
        if extent.nbytes >= _SHOWN_NBYTES and 2 * used[extent.blob_id] >= stored.blob_nbytes(extent.blob_id)
    ]


def ranges(fd: int, offset: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, stop, whether it is a hole) of what a file has from `offset` to `stop`, in order."""
    while offset < stop:
        start = _seek(fd, offset, stop, os.SEEK_DATA)
        if offset < start:
            yield offset, start, True
        if start < stop:
            end = _seek(fd, start, stop, os.SEEK_HOLE)
            yield start, end, False
            start = end
        offset = start


def _seek(fd: int, offset: int, stop: int, whence: int) -> int:
    try:
        return min(os.lseek(fd, offset, whence), stop)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return stop  # nothing but a hole up to the end of the file


def is_hole(fd: int, offset: int, stop: int) -> bool:
    """Return whether a file has nothing of its own in a range."""
    return _seek(fd, offset, stop, os.SEEK_DATA) == stop


def read_over(fd: int, older: Older, offset: int, nbytes: int) -> bytes | memoryview:
    """Read bytes of a file and of what shows through it, fewer only at its end. Raises OSError, Damaged."""
    stop = min(offset + nbytes, os.fstat(fd).st_size)
    found = list(ranges(fd, offset, stop))
    if len(found) == 1 and found[0][2]:
        return older.read(offset, stop - offset)
    whole = bytearray(max(0, stop - offset))
    for start, end, hole in found:
        part = older.read(start, end - start) if hole else read_at(fd, start, end - start)
        whole[start - offset : start - offset + len(part)] = part
    return memoryview(whole)


def fill_edges(fd: int, older: Older, offset: int, nbytes: int) -> tuple[bytes | memoryview, bytes | memoryview]:
    """Return what shows through before and behind a range in its first and last block: to be written with the range.

    Raises OSError, Damaged.
    """
    stop = offset + nbytes
    first = offset - offset % BLOCK_NBYTES
    last = stop - stop % BLOCK_NBYTES
    before: bytes | memoryview = b""
    behind: bytes | memoryview = b""
    if first < offset and first < older.nbytes and is_hole(fd, first, first + 1):
        before = older.read(first, offset - first)
    if last < stop < older.nbytes and is_hole(fd, last, last + 1):
        behind = older.read(stop, min(last + BLOCK_NBYTES, older.nbytes) - stop)
    return before, behind


def claim_holes(fd: int) -> None:
    """Have a file say that its holes mean something. Raises OSError where a file system keeps no attributes."""
    os.setxattr(fd, _OWN, b"%d" % os.fstat(fd).st_ino)


def check_holes(fd: int, where: object) -> None:
    """Raise Damaged unless a file is the very one whose holes mean something."""
    try:
        if os.getxattr(fd, _OWN) == b"%d" % os.fstat(fd).st_ino:
            return
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
    raise Damaged(
        where,
        "it is a copy, in which what was changed of a stored file cannot be told from what was not. Copy a store when"
        " `zipfs wait` says that nothing waits in it",
    )


def keeps_holes(directory: str | os.PathLike[str]) -> bool:
    """Return whether the file system of a directory keeps holes between single blocks, and tells of them at once."""
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.ftruncate(fd, _PROBED_NBYTES)
        claim_holes(fd)
        for block in (2, 7, 8, 40):
            os.pwrite(fd, bytes(BLOCK_NBYTES), block * BLOCK_NBYTES)
        filled = [
            (start // BLOCK_NBYTES, end // BLOCK_NBYTES)
            for start, end, hole in ranges(fd, 0, _PROBED_NBYTES)
            if not hole
        ]
        return filled == [(2, 3), (7, 9), (40, 41)]
    except OSError:
        return False
    finally:
        os.close(fd)
