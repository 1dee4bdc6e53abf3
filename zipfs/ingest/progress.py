"""What the pipeline tells about itself while it runs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the thread that runs the pipeline; must return quickly."""

    def waiting(self, why: str) -> None:
        """Another process has what is needed."""

    def began(self, shown: str, nbytes: int) -> None:
        """Work on a file of `nbytes` raw bytes begins."""

    def advanced(self, nbytes: int) -> None:
        """So many more raw bytes are read, coded or compared: each byte of a file counts twice in all."""

    def stored(self, shown: str, nbytes: int, stored_nbytes: int) -> None:
        """A file is committed."""

    def failed(self, shown: str, message: str) -> None:
        """A file could not be stored; the message names it."""
