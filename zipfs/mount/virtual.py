"""What exists in a mount only: the directory `.zipfs`, which can be entered but is not listed, so that copies of the
tree do not take it along, and the attribute `user.zipfs.perf` of the root. The owner of the mount and root read all of
it; for others there is the status alone, with what `visibility.py` lets them know.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Awaitable, Callable

from pyfuse3 import EntryAttributes, InodeT

from zipfs.metrics.counters import Counters
from zipfs.metrics.prometheus import render_prometheus
from zipfs.metrics.snapshot import to_json
from zipfs.mount.attributes import describe_virtual
from zipfs.mount.logs import Log
from zipfs.mount.numbers import VIRTUAL_DIRECTORY
from zipfs.store.namespace.tree import now_ns
from zipfs.vfs.visibility import Requester

NAME = b".zipfs"
_STATUS = InodeT(VIRTUAL_DIRECTORY + 1)
_LOG = InodeT(VIRTUAL_DIRECTORY + 2)
_PERF = InodeT(VIRTUAL_DIRECTORY + 3)
_METRICS = InodeT(VIRTUAL_DIRECTORY + 4)
FILES = {b"status.json": _STATUS, b"zipfs.log": _LOG, b"perf.json": _PERF, b"metrics": _METRICS}
_FOR_ALL = frozenset({_STATUS})
_PERF_STEP_NBYTES = 4 << 10
_STATUS_NBYTES = 1 << 10
"""About, of a status that nobody has read."""


class Virtual:
    """Makes the contents of virtual files when they are opened; the log shows what is new all the time.

    Used by the event loop.
    """

    def __init__(self, status: Callable[[Requester], Awaitable[bytes]], log: Log, counters: Counters) -> None:
        self._status = status
        self._log = log
        self._counters = counters
        self._read_nbytes = {_PERF: 0, _METRICS: 0, _STATUS: _STATUS_NBYTES}
        self._perf_nbytes = 0

    def owns(self, number: InodeT) -> bool:
        return number >= VIRTUAL_DIRECTORY

    def attributes(self, number: InodeT) -> EntryAttributes:
        if number == VIRTUAL_DIRECTORY:
            return describe_virtual(number, stat.S_IFDIR | 0o555, 0, now_ns())
        if number == _LOG:  # tail(1) looks at both, to know whether there is more
            return describe_virtual(number, stat.S_IFREG | 0o400, self._log.nbytes, self._log.mtime_ns)
        # They are as long as when they were last read: making them again for each stat would cost reads of models half
        # a millisecond, and readers go on to the end whatever the length. An empty file they never are.
        nbytes = self._read_nbytes[number] or len(self._counted(number))
        mode = 0o444 if number in _FOR_ALL else 0o400
        return describe_virtual(number, stat.S_IFREG | mode, nbytes, now_ns())

    async def open(self, number: InodeT, who: Requester) -> bytes | Log:
        """Return what a handle reads from: the log, or a snapshot of another file for one reader."""
        if number == _LOG:
            return self._log
        if number != _STATUS:
            return self._counted(number)
        content = await self._status(who)
        self._read_nbytes[number] = len(content)
        return content

    def _counted(self, number: InodeT) -> bytes:
        snapshot = self._counters.snapshot()
        text = render_prometheus(snapshot) if number == _METRICS else json.dumps(to_json(snapshot)) + "\n"
        content = text.encode()
        self._read_nbytes[number] = len(content)
        return content

    def perf(self) -> bytes:
        """Return `user.zipfs.perf`: the counters as JSON, without buckets.

        Filled up with spaces to a length that hardly ever changes: a reader asks for the length first and for the value
        later, when there is more to tell.
        """
        found = json.dumps(to_json(self._counters.snapshot(), buckets=False)).encode()
        self._perf_nbytes = max(self._perf_nbytes, -(-len(found) // _PERF_STEP_NBYTES) * _PERF_STEP_NBYTES)
        return found.ljust(self._perf_nbytes)
