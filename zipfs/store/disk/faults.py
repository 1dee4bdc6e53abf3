"""Fault points: named places at which a test can kill this process.

`ZIPFS_FAULT=ingest.pack-synced` kills the process with SIGKILL when it reaches that point; `name:3` on the third time.
`POINTS` lists the names, so that a test which walks them all cannot miss one; those on the way of a new pack are listed
by `store/publish.py`.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Final

POINTS: Final = (
    "seal.begin",
    "seal.logged",
    "seal.committed",
    "seal-written.begin",
    "seal-written.logged",
    "seal-written.committed",
    "reopen.prepared",
    "reopen.logged",
    "reopen.committed",
    "clip.truncated",
    "clip.logged",
    "clip.committed",
    "ingest.begin",
    "ingest.spool-freed",
    "optimize.begin",
    "delete.logged",
    "delete.committed",
    "delete.spool-freed",
    "gc.begin",
    "gc.pack-dropped",
    "gc.pack-unlinked",
    "gc.snapshot-synced",
    "gc.snapshot-renamed",
    "gc.snapshot-committed",
)

_armed, _, _nth = os.environ.get("ZIPFS_FAULT", "").partition(":")
_seen: Counter[str] = Counter()


def point(name: str) -> None:
    """Kill this process if the environment names this point."""
    if name != _armed:
        return
    _seen[name] += 1
    if _seen[name] == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
