"""Keeps the worker process going and listens to what it tells.

Its standard output brings what it is doing and its log messages, a JSON object a line (`ingest/worker.py`). Its
standard error brings what nobody foresaw: that goes to the log too, and its last words are kept for `zipfs status`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from zipfs.host import own_command, own_environment
from zipfs.mount.logs import indented
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_RESTART_S = 1.0
_RESTART_AT_MOST_S = 60.0
_STOP_S = 20.0
_LINE_NBYTES_AT_MOST = 1 << 20
_LINES_KEPT = 20


@dataclass(slots=True)
class _Deaths:
    """Ends of the worker in a row, with nothing finished between them. Times are seconds of the epoch."""

    count: int
    since: float
    how: str
    last_words: list[str]
    starts_again_at: float


class Supervisor:
    """Run `keep` as a task of the event loop."""

    def __init__(self, store: Store, arguments: list[str]) -> None:
        self._command = own_command("ingest", "--worker", *arguments, "--", str(store.path))
        self._process: trio.Process | None = None
        self._began_s = 0.0
        self._said: dict[str, Any] = {}
        self._words: deque[str] = deque(maxlen=_LINES_KEPT)
        self._deaths: _Deaths | None = None

    @property
    def state(self) -> dict[str, Any]:
        """Return what the worker said last (file, file_nbytes, work_nbytes, waiting), and how it dies, if it does."""
        found = dict(self._said)
        if self._deaths is not None:
            found["deaths"] = self._deaths.count
            found["dying_since"] = self._deaths.since
            found["ended"] = self._deaths.how
            found["last_words"] = self._deaths.last_words
            found["starts_again_at"] = self._deaths.starts_again_at if self._process is None else None
        return found

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def keep(self) -> None:
        """Start the worker, and again whenever it ends. Stop it when cancelled."""
        pause_s = _RESTART_S
        while True:
            self._began_s = trio.current_time()
            self._words.clear()
            try:
                how = f"ended with code {await self._run()}"
            except OSError as error:  # too many processes, no memory: reading goes on, and later there may be some
                how = f"could not be started: {error}"
            if trio.current_time() - self._began_s > _RESTART_AT_MOST_S:
                pause_s = _RESTART_S
            self._note_death(how, pause_s)
            log.error("the worker %s; it is started again in %.0f s", how, pause_s)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RESTART_AT_MOST_S)

    def _note_death(self, how: str, pause_s: float) -> None:
        now = time.time()
        before = self._deaths
        count, since = (1, now) if before is None else (before.count + 1, before.since)
        self._deaths = _Deaths(count, since, how, list(self._words), now + pause_s)

    async def _run(self) -> int:
        """Start the worker and stay until it ends. Return its exit code. Raises OSError."""
        self._process = process = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=own_environment(os.environ),
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_lines, process.stderr, self._hear)
                nursery.start_soon(_lines, process.stdout, self._take)
            return await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._end(process)
            self._process, self._said = None, {}

    async def wake(self) -> None:
        """Tell the worker that the queue has grown."""
        process = self._process
        if process is not None and process.stdin is not None:
            try:
                await process.stdin.send_all(b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # it has just ended; its successor looks by itself

    def _take(self, line: bytes) -> None:
        """Take a line of the worker's standard output."""
        try:
            said = json.loads(line)
            message = said.get("log")
            if message is None:
                self._said = said
            else:
                self._log(**message)
        except (ValueError, TypeError, AttributeError, RecursionError):
            log.warning("the worker said %r", line[:200])
        if self._said.get("finished"):
            self._deaths = None

    def _log(self, name: str, level: int, message: str, trace: str | None, created: float) -> None:
        """Hand on a message of the worker as its own, with its own time and process."""
        record = logging.LogRecord(name, level, "", 0, message, None, None)
        record.created, record.msecs, record.process = created, created % 1 * 1000, self.pid
        record.exc_text = None if trace is None else indented(trace)
        logging.getLogger(name).handle(record)

    def _hear(self, line: bytes) -> None:
        """Keep a line of the worker's standard error."""
        text = line.decode(errors="backslashreplace").rstrip()
        if text:
            self._words.append(text)
            log.warning("the worker wrote: %s", text)

    async def _end(self, process: trio.Process) -> None:
        """Close the input of the worker: it stops after the frame that it is at.

        The spool keeps what is not committed.
        """
        if process.poll() is not None:
            return
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.move_on_after(_STOP_S):
            await process.wait()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def _lines(stream: trio.abc.ReceiveStream, take: Callable[[bytes], None]) -> None:
    """Hand on each line of a stream; one without end is cut off."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            take(line)
        rest = rest[:_LINE_NBYTES_AT_MOST]
    if rest:
        take(rest)
