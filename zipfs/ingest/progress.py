"""Owns what the pipeline tells about itself while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zipfs.store.disk.stopping import Stop

if TYPE_CHECKING:
    from zipfs.ingest.source import Source


class Progress(Protocol):
    """Called from the thread that runs the pipeline; must return quickly."""

    def waiting(self, why: str) -> None:
        """Hear that another process has what is needed."""

    def began(self, shown: str, nbytes: int) -> None:
        """Hear that work on a file of `nbytes` raw bytes begins."""

    def advanced(self, nbytes: int) -> None:
        """Hear that so many more raw bytes are read, coded or compared: each byte of a file counts twice in all."""

    def stored(self, shown: str, nbytes: int, stored_nbytes: int) -> None:
        """Hear that a file is committed."""

    def failed(self, shown: str, message: str) -> None:
        """Hear that a file could not be stored; the message names it."""


class FileProgress:
    """Tells of the progress of one file, and ends its work where it is not wanted any more.

    Without a `progress` there is work on something that is none of the file's bytes.
    """

    def __init__(self, source: Source, progress: Progress | None, stop: Stop) -> None:
        self._source = source
        self._progress = progress
        self._stop = stop

    def advance(self, nbytes: int) -> None:
        """Tell of progress; to be called about once a MiB. Raises Stopped, and NotWanted if the file was removed."""
        self.check_stop()
        self._source.check_wanted()
        if self._progress is not None:
            self._progress.advanced(nbytes)

    def check_stop(self) -> None:
        """Raise Stopped where all work is to end; any thread may ask."""
        self._stop.check()
