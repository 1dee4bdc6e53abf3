"""Keeps the worker process going and listens to what it tells."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from typing import Any

import trio

from zipfs.store.store import Store

log = logging.getLogger(__name__)

_RESTART_S = 1.0
_RESTART_AT_MOST_S = 60.0
_STOP_S = 20.0


class Supervisor:
    """Run `keep` as a task of the event loop."""

    def __init__(self, store: Store, arguments: list[str]) -> None:
        self._command = [sys.executable, "-m", "zipfs.cli", "ingest", str(store.path), "--worker", *arguments]
        self._process: trio.Process | None = None
        self.state: dict[str, Any] = {}
        """What the worker said last: file, file_nbytes, work_nbytes, waiting."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def keep(self) -> None:
        """Start the worker, and again when it ends; stops it when cancelled."""
        pause_s = _RESTART_S
        while True:
            began_s = trio.current_time()
            try:
                what = f"ended with code {await self._run()}"
            except OSError as error:  # too many processes, no memory: reading goes on, and later there may be some
                what = f"could not be started: {error}"
            if trio.current_time() - began_s > _RESTART_AT_MOST_S:
                pause_s = _RESTART_S
            log.error("the worker %s; it is started again in %.0f s", what, pause_s)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RESTART_AT_MOST_S)

    async def _run(self) -> int:
        """Start the worker and stay until it ends; returns its exit code. Raises OSError."""
        self._process = process = await trio.lowlevel.open_process(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            await self._listen(process)
            return await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._end(process)
            self._process, self.state = None, {}

    async def wake(self) -> None:
        """Tell the worker that the queue has grown."""
        process = self._process
        if process is not None and process.stdin is not None:
            try:
                await process.stdin.send_all(b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # it has just ended; its successor looks by itself

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                try:
                    self.state = json.loads(line)
                except ValueError:
                    log.warning("the worker said %r", line[:200])

    async def _end(self, process: trio.Process) -> None:
        """Closing its input asks it to stop after the frame that it is at; what is not committed stays in the spool."""
        if process.poll() is not None:
            return
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.move_on_after(_STOP_S):
            await process.wait()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
