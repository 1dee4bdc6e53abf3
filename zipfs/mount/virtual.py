"""`.zipfs`: the directory that exists in a mount only. It can be entered but is not listed, so that copies of the tree
do not take it along.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from pyfuse3 import EntryAttributes, InodeT

from zipfs.mount.attributes import describe_virtual
from zipfs.mount.numbers import VIRTUAL_DIRECTORY
from zipfs.store.tree import now_ns

NAME = b".zipfs"
_STATUS = InodeT(VIRTUAL_DIRECTORY + 1)
_LOG = InodeT(VIRTUAL_DIRECTORY + 2)
FILES = {b"status.json": _STATUS, b"zipfs.log": _LOG}
_LOG_TAIL_NBYTES = 1 << 20


class Virtual:
    """Contents are made when a file is opened. Used by the event loop."""

    def __init__(self, status: Callable[[], bytes], log_path: Path) -> None:
        self._status = status
        self._log_path = log_path

    def owns(self, number: InodeT) -> bool:
        return number >= VIRTUAL_DIRECTORY

    def attributes(self, number: InodeT) -> EntryAttributes:
        if number == VIRTUAL_DIRECTORY:
            return describe_virtual(number, stat.S_IFDIR | 0o555, 0, now_ns())
        return describe_virtual(number, stat.S_IFREG | 0o444, len(self.content(number)), now_ns())

    def content(self, number: InodeT) -> bytes:
        """A snapshot of a file; the log shows its last MiB."""
        if number == _STATUS:
            return self._status()
        try:
            with open(self._log_path, "rb") as file:
                file.seek(max(0, self._log_path.stat().st_size - _LOG_TAIL_NBYTES))
                return file.read()
        except FileNotFoundError:
            return b""
