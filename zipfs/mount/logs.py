"""Owns the log of a store: one process writes and rotates it, the daemon of the mount that writes.

The worker's messages come through its standard output (`supervisor.py`). Only what begins a line with a date is a
message: whatever else a message holds, a file name for instance, cannot begin one. Any thread may log.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from zipfs.errors import Damaged
from zipfs.host import printable
from zipfs.store.disk.files import make_directory, open_file, opener

_NBYTES: Final = 4 << 20
_OLD_FILES: Final = 3
_KEPT_NBYTES: Final = 1 << 20
_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class _Lines(logging.Formatter):
    """Formats one line a message, and indented ones below it for a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        return printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        return indented(super().formatException(ei))  # type: ignore[arg-type]


def indented(text: str) -> str:
    """Indent lines that belong to a message above them."""
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())


class _File(logging.handlers.RotatingFileHandler):
    """A file that is rotated and, when that was asked for, what standard error is as well."""

    _has_stderr = False

    def _open(self) -> TextIOWrapper:
        # For the owner of the store alone: it names files and the errors that they met.
        return TextIOWrapper(open(self.baseFilename, "ab", opener=opener), encoding=self.encoding, errors=self.errors)

    def take_stderr(self) -> None:
        self._has_stderr = True
        if self.stream is not None:
            os.dup2(self.stream.fileno(), 2)

    def doRollover(self) -> None:  # noqa: N802  # the name is logging's
        super().doRollover()
        if self._has_stderr:
            self.take_stderr()


class Log:
    """The log file and those that were rotated away, which together read as one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: _File | None = None

    def write_to_it(self, *, also_stderr: bool) -> None:
        """Have the messages of this process written there."""
        handlers = [self._handler(), *([logging.StreamHandler()] if also_stderr else [])]
        for handler in handlers:
            handler.setFormatter(_Lines(_FORMAT))
        logging.basicConfig(level=logging.INFO, handlers=handlers)

    def _handler(self) -> logging.Handler:
        make_directory(self.path.parent)
        self._file = _File(
            self.path, maxBytes=_NBYTES, backupCount=_OLD_FILES, encoding="utf-8", errors="backslashreplace"
        )
        return self._file

    def take_stderr(self) -> None:
        """Have what libraries and a crash write to standard error go to the log, too."""
        if self._file is not None:
            self._file.take_stderr()

    def _files(self) -> list[Path]:
        """Return the files of the log, the oldest first."""
        return [*(self.path.with_name(f"{self.path.name}.{age}") for age in range(_OLD_FILES, 0, -1)), self.path]

    @property
    def nbytes(self) -> int:
        return sum(_nbytes(file) for file in self._files())

    @property
    def mtime_ns(self) -> int:
        """Return when the last line was written; 0 if none was."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return a range of what the log holds now. Offsets become lower when the oldest file is dropped."""
        parts = []
        for path in self._files():
            length = _nbytes(path)
            if offset < length and nbytes:
                try:
                    with open(open_file(path), "rb") as file:
                        parts.append(os.pread(file.fileno(), nbytes, offset))
                except (OSError, Damaged):
                    break
                nbytes -= len(parts[-1])
            offset = max(0, offset - length)
        return b"".join(parts)


class UnwrittenLog(Log):
    """The log for a mount that may not write to its store: what is new is kept in memory, and shown after the rest."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._kept = b""
        self._kept_at_ns = 0

    def _handler(self) -> logging.Handler:
        return _ToMemory(self._keep)

    def take_stderr(self) -> None:
        """Have what is written to standard error go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def _keep(self, line: bytes) -> None:
        self._kept = (self._kept + line)[-_KEPT_NBYTES:]
        self._kept_at_ns = time.time_ns()

    @property
    def nbytes(self) -> int:
        return super().nbytes + len(self._kept)

    @property
    def mtime_ns(self) -> int:
        return max(super().mtime_ns, self._kept_at_ns)

    def read(self, offset: int, nbytes: int) -> bytes:
        written = super().read(offset, nbytes)
        start = max(0, offset - super().nbytes)
        return written + self._kept[start : start + nbytes - len(written)]


class _ToMemory(logging.Handler):
    def __init__(self, keep: Callable[[bytes], None]) -> None:
        super().__init__()
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        self._keep(f"{self.format(record)}\n".encode(errors="backslashreplace"))


def _nbytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
