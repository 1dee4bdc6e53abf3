"""What `zipfs wait` says to whoever sees no progress bar: that it waits for long, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from zipfs.cli.render.output import counted, ratio, say, size

_FIRST_S: Final = 2.0
_EVERY_S: Final = 60.0


class WaitWords:
    """Given each status that is looked at, and the last one in the end."""

    def __init__(self, *, has_bar: bool) -> None:
        self._next_s = time.monotonic() + _FIRST_S
        self._has_bar = has_bar
        self._first: Mapping[str, Any] | None = None

    def still(self, status: Mapping[str, Any], left: int) -> None:
        """Something is left."""
        if self._first is None:
            self._first = status
        if not self._has_bar and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _EVERY_S
            say(f"waiting for {counted(left, 'file')}, {size(status['queued_nbytes'])} of them queued")

    def done(self, status: Mapping[str, Any]) -> None:
        """Nothing is left: what has come while we waited, and what there is."""
        files, raw, stored = (status[key] for key in ("stored_files", "stored_raw_nbytes", "packs_nbytes"))
        first = self._first or status
        new = files - first["stored_files"]
        compressed = f"compressed {counted(new, 'file')}; " if new > 0 else ""
        say(f"{compressed}all in all {counted(files, 'file')}: {size(raw)} in {size(stored)} ({ratio(stored, raw)})")
