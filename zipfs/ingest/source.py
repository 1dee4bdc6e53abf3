"""Owns raw content to be stored: a spool file, or a file of somebody else that is read where it lies.

A source is read several times: to fingerprint, to encode, to compare. It must not change meanwhile; a spool file
cannot, and for any other file the change is noticed before anything is committed.
"""

from __future__ import annotations

import os
import stat
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import xxhash

from zipfs.errors import PathError, ZipfsError
from zipfs.formats import Span
from zipfs.ingest.holes import find_holes, largest
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk.files import read_at
from zipfs.store.frames.overlay import Older, check_holes, read_over, shown_through
from zipfs.store.objects.values import Extent

_ASK_EVERY_S = 0.5


class SourceError(PathError):
    """{0}: {1}"""

    exit_code = 1


class NotWanted(SourceError):
    """{0}: was removed before it was compressed"""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What became of a source. `stored_nbytes` is what it added to the packs."""

    nbytes: int
    extents: tuple[Extent, ...]
    sha256: bytes | None
    stored_nbytes: int


@dataclass(slots=True)
class Source:
    """One file for the pipeline to store.

    `commit` writes the rows of the stored file in the transaction that also registers its packs; `done` is called once
    that is durable, `failed` when this file could not be stored (others of its batch still can).
    """

    path: Path
    shown: str
    """How messages name it."""
    name: bytes
    nbytes: int
    commit: Callable[[Transaction, StoredFile], None]
    done: Callable[[], None] = lambda: None
    failed: Callable[[ZipfsError], None] = lambda error: None
    final: bool = False
    """Whether `nbytes` must hold; otherwise the file has the size that it has when it is opened."""
    info: os.stat_result | None = field(default=None, repr=False)
    """Of the file that was opened, which may be another one than its path led to before: attributes that are kept must
    be those of the content, or somebody else's secret would be served as that of whoever owns the directory.
    """
    older: Older | None = None
    """What shows through the holes of the file."""
    wanted: Callable[[], bool] = lambda: True
    """Asked now and then while the file is read; once it says no, nothing of it is stored."""
    _asked_s: float = 0.0
    _fd: int = field(default=-1, repr=False)
    _identity: tuple[int, int, int] = (0, 0, 0)

    @property
    def file(self) -> Source:
        """Return the source that is opened, closed and committed: this one, unless it holds parts of another."""
        return self

    def open(self) -> None:
        """Raises SourceError."""
        try:
            # What was a file when it was found may be a pipe now, which would be waited at for good.
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            self.info = os.fstat(self._fd)
            self._identity = self._status()
        except OSError as error:
            raise SourceError(self.shown, f"cannot be read: {error.strerror}") from error
        if self.older is not None:
            check_holes(self._fd, self.path)
        if not stat.S_ISREG(self.info.st_mode):
            raise SourceError(self.shown, "is not a regular file any more")
        if self.final and self._identity[0] != self.nbytes:
            raise SourceError(
                self.shown, f"has {self._identity[0]} bytes in the spool, and had {self.nbytes} when sealed"
            )
        self.nbytes = self._identity[0]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _status(self) -> tuple[int, int, int]:
        try:
            found = os.fstat(self._fd)
        except OSError as error:
            raise SourceError(self.shown, f"cannot be read: {error.strerror}") from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self, offset: int, nbytes: int) -> bytes:
        """Read bytes, fewer only at the end of the file. Raises SourceError, Damaged."""
        try:
            if self.older is not None and self.older.nbytes > offset:
                return bytes(read_over(self._fd, self.older, offset, nbytes))
            return read_at(self._fd, offset, nbytes)
        except OSError as error:
            raise SourceError(self.shown, f"cannot be read: {error.strerror}") from error

    def read_exactly(self, offset: int, nbytes: int) -> bytes:
        data = self.read(offset, nbytes)
        if len(data) != nbytes:
            raise SourceError(self.shown, "became shorter while it was read; store it again when nothing writes to it")
        return data

    def check_unchanged(self) -> None:
        """Raises SourceError if somebody wrote to the file since `open`, or if it holds more than its size says."""
        now = self._status()
        if now[:2] != self._identity[:2]:
            raise SourceError(self.shown, "changed while it was read; store it again when nothing writes to it")
        if self.read(self.nbytes, 1):
            raise SourceError(
                self.shown, f"says that it has {self.nbytes} bytes, and holds more; store a copy of it instead"
            )

    def check_wanted(self) -> None:
        """Raises NotWanted if it was removed; looks twice a second at most."""
        now_s = time.monotonic()
        if now_s - self._asked_s >= _ASK_EVERY_S:
            self._asked_s = now_s
            if not self.wanted():
                raise NotWanted(self.shown)

    def unchanged(self) -> list[Extent]:
        """Return the large ranges that show through from an older version: nobody has changed them."""
        return [] if self.older is None else shown_through(self._fd, self.nbytes, self.older)

    def holes(self) -> list[tuple[int, int]]:
        """Return (offset, bytes) of large ranges for which there is nothing on the disk: they are read as zeros."""
        return [] if self.older is not None else largest(find_holes(self._fd, self.nbytes))


class Zeros(Source):
    """A source of zeros, which holes are stored as ranges of."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(Path(), "a hole", b"", nbytes, lambda txn, stored: None)

    def read(self, offset: int, nbytes: int) -> bytes:
        return bytes(min(nbytes, self.nbytes - offset))

    def check_unchanged(self) -> None:
        return

    def fingerprint(self) -> bytes:
        """Return the XXH3-128 of all of it."""
        hashed, piece = xxhash.xxh3_128(), bytes(1 << 20)
        for _ in range(self.nbytes >> 20):
            hashed.update(piece)
        return hashed.digest()


class Gathered(Source):
    """Spans of another source, which is open, joined."""

    def __init__(self, source: Source, spans: Sequence[Span]) -> None:
        self._source = source
        self._spans = spans
        self._starts = list(accumulate((span.nbytes for span in spans), initial=0))
        super().__init__(source.path, source.shown, source.name, self._starts[-1], lambda txn, stored: None)

    @property
    def file(self) -> Source:
        return self._source

    def read(self, offset: int, nbytes: int) -> bytes:
        parts: list[bytes] = []
        end = min(offset + nbytes, self.nbytes)
        at = bisect_right(self._starts, offset) - 1
        while offset < end:
            span, skipped = self._spans[at], offset - self._starts[at]
            taken = min(span.nbytes - skipped, end - offset)
            parts.append(self._source.read_exactly(span.offset + skipped, taken))
            offset, at = offset + taken, at + 1
        return b"".join(parts)

    def check_unchanged(self) -> None:
        self._source.check_unchanged()

    def check_wanted(self) -> None:
        self._source.check_wanted()
