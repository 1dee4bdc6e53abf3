"""A range of a file, as a parser wants it: exact reads, and few of them.

Owns the check that what a parser asks for lies in the range, so that no length that a file claims is ever read or
allocated before it is known to be there. A source belongs to one thread.
"""

from __future__ import annotations

from typing import Final, Literal

from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Read

BLOCK_NBYTES: Final = 4096
"""What is read at once where less is asked for: the next thing that is asked for mostly lies behind it."""


class Source:
    """`nbytes` of a file from `start` on; offsets count from there."""

    __slots__ = ("_block", "_block_offset", "_read", "nbytes", "start")

    def __init__(self, read: Read, nbytes: int, start: int = 0) -> None:
        self._read = read
        self.start = start
        self.nbytes = nbytes
        self._block = b""
        self._block_offset = 0

    def within(self, offset: int, nbytes: int) -> Source:
        """Return a range of this range. Raises NotThisFormat if it is not inside."""
        self._check(offset, nbytes)
        return Source(self._read, nbytes, self.start + offset)

    def take(self, offset: int, nbytes: int) -> bytes:
        """Return exactly these bytes. Raises NotThisFormat if they are not there."""
        at = offset - self._block_offset
        if at >= 0 and at + nbytes <= len(self._block):
            return self._block[at : at + nbytes]
        self._check(offset, nbytes)
        wanted = max(nbytes, min(BLOCK_NBYTES, self.nbytes - offset))
        block = self._read(self.start + offset, wanted)
        if len(block) < nbytes:
            raise NotThisFormat("the file is shorter than was said")
        if wanted == nbytes:
            return block
        self._block, self._block_offset = block, offset
        return block[:nbytes]

    def _check(self, offset: int, nbytes: int) -> None:
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise NotThisFormat(f"{nbytes} bytes at {offset} of {self.nbytes}")


class Cursor:
    """A position in a source, from which things are taken one after the other."""

    __slots__ = ("at", "source")

    def __init__(self, source: Source, at: int = 0) -> None:
        self.source = source
        self.at = at

    def take(self, nbytes: int) -> bytes:
        """Take the next `nbytes`. Raises NotThisFormat if they are not there."""
        content = self.source.take(self.at, nbytes)
        self.at += nbytes
        return content

    def uint(self, nbytes: int, order: Literal["little", "big"] = "little") -> int:
        """Take the next number, of `nbytes` and without a sign."""
        return int.from_bytes(self.take(nbytes), order)

    def skip(self, nbytes: int) -> int:
        """Step over `nbytes`, of which nothing is read, and return where they begin in the file."""
        if nbytes > self.source.nbytes - self.at:
            raise NotThisFormat(f"{nbytes} bytes at {self.at} of {self.source.nbytes}")
        begin = self.source.start + self.at
        self.at += nbytes
        return begin
