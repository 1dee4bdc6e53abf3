"""Raw content to be stored: a spool file, or a file of somebody else that is read where it lies.

A source is read several times: to fingerprint, to encode, to compare. It must not change meanwhile; a spool file
cannot, and for any other file the change is noticed before anything is committed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from zipfs.errors import PathError, ZipfsError
from zipfs.store.files import read_at
from zipfs.store.rows import Extent
from zipfs.store.transaction import Transaction


class SourceError(PathError):
    """{0}: {1}"""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What became of a source. `stored_nbytes` is what it added to the packs."""

    nbytes: int
    extents: tuple[Extent, ...]
    sha256: bytes
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
    _fd: int = field(default=-1, repr=False)
    _identity: tuple[int, int, int] = (0, 0, 0)

    def open(self) -> None:
        """Raises SourceError."""
        try:
            # What was a file when it was found may be a pipe now, which would be waited at for good.
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            self.info = os.fstat(self._fd)
            self._identity = self._look()
        except OSError as error:
            raise SourceError(self.shown, f"cannot be read: {error.strerror}") from error
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

    def _look(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self, offset: int, nbytes: int) -> bytes:
        """Fewer bytes only at the end of the file. Raises SourceError."""
        try:
            return read_at(self._fd, offset, nbytes)
        except OSError as error:
            raise SourceError(self.shown, f"cannot be read: {error.strerror}") from error

    def read_exactly(self, offset: int, nbytes: int) -> bytes:
        data = self.read(offset, nbytes)
        if len(data) != nbytes:
            raise SourceError(self.shown, "became shorter while it was read; store it again when nothing writes to it")
        return data

    def check_unchanged(self) -> None:
        """Raises SourceError if somebody wrote to the file since `open`."""
        now = self._look()
        if now[:2] != self._identity[:2]:
            raise SourceError(self.shown, "changed while it was read; store it again when nothing writes to it")
