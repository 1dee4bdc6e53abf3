"""The worker: the process that compresses for a mount. It runs `zipfs ingest`'s own code at a low priority.

It ends when its standard input does, so that it never outlives the mount; a line there says that there is something
new. What it is doing goes to standard output, one JSON object a line, and so do its log messages: the daemon alone
writes the log. What it says to standard error is kept as its last words.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from zipfs.errors import Damaged, NoSpace, StoreBusy
from zipfs.ingest.idle import Idler
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import drain
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_NICE = 10
_PATH_OOM = Path("/proc/self/oom_score_adj")
_OOM_SCORE = "500"
_REPORT_EVERY_S = 0.25
_RETRY_S = 5.0
_POLL_S = 30.0

_saying = threading.Lock()


def log_to_daemon() -> None:
    """Have the daemon write the messages of this process to the log."""
    logging.basicConfig(level=logging.INFO, handlers=[_ToDaemon()])


class Reporter:
    """A Progress that writes JSON lines, at most four a second."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {
            "file": None,
            "file_nbytes": 0,
            "work_nbytes": 0,
            "optimizing": None,
            "finished": 0,  # files that were stored or refused: it does not die of each
        }
        self._told_s = 0.0

    def _tell(self, *, now: bool = False, **changes: object) -> None:
        self._state.update(changes)
        if now or time.monotonic() - self._told_s > _REPORT_EVERY_S:
            self._told_s = time.monotonic()
            _say(self._state)

    def waiting(self, why: str) -> None:
        self._tell(now=True, file=None, waiting=why)

    def began(self, shown: str, nbytes: int) -> None:
        self._tell(file=shown, file_nbytes=nbytes, work_nbytes=0, waiting=None)

    def advanced(self, nbytes: int) -> None:
        self._tell(work_nbytes=self._state["work_nbytes"] + nbytes)

    def stored(self, shown: str, nbytes: int, stored_nbytes: int) -> None:
        log.info("stored %s: %d bytes in %d", shown, nbytes, stored_nbytes)
        self._tell(now=True, file=None, file_nbytes=0, work_nbytes=0, finished=self._state["finished"] + 1)

    def optimizing(self, what: str | None, done: int = 0, total: int = 0) -> None:
        """What the optimizer is at; None when it has ended."""
        self._tell(now=what is None, optimizing=None if what is None else [what, done, total])

    def failed(self, shown: str, message: str) -> None:
        log.error("could not store %s", message)
        self._tell(now=True, file=None, file_nbytes=0, work_nbytes=0, finished=self._state["finished"] + 1)


def _say(document: dict[str, Any]) -> None:
    """Tell the daemon; any thread may."""
    with _saying, suppress(BrokenPipeError):  # the mount has been killed; what is under way is still worth finishing
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


class _ToDaemon(logging.Handler):
    """Messages for the log, which the daemon writes."""

    def emit(self, record: logging.LogRecord) -> None:
        trace = None if record.exc_info is None else logging.Formatter().formatException(record.exc_info)
        _say(
            {
                "log": {
                    "name": record.name,
                    "level": record.levelno,
                    "message": record.getMessage(),
                    "trace": trace,
                    "created": record.created,
                }
            }
        )


def _yield_to_others() -> None:
    """Take a lower rank than the mount, for the processor and where memory runs out. A system may forbid either."""
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError):
        _PATH_OOM.write_text(_OOM_SCORE)


def run(store: Store, threads: int, optimize_after_s: float | None) -> None:
    """Compress what is queued until standard input ends or SIGTERM comes; what is under way stays in the spool.

    When nothing has come for `optimize_after_s` the store is optimized, unless that is None.
    """
    _yield_to_others()
    reporter = Reporter()
    pipeline = Pipeline(store, reporter, threads=threads)
    wake = threading.Event()
    idler = Idler(store, wake, reporter.optimizing)
    signal.signal(signal.SIGTERM, lambda *_: _stop(pipeline, wake))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a mount in the foreground is the mount's to handle
    threading.Thread(target=_listen, args=(pipeline, wake), daemon=True).start()
    after_s = math.inf if optimize_after_s is None else optimize_after_s
    busy_s = time.monotonic()
    while not pipeline.stop.is_set():
        wake.clear()
        pause_s = _POLL_S
        try:
            if drain(store, pipeline):
                busy_s = time.monotonic()
            idle_in_s = busy_s + after_s - time.monotonic()
            if idle_in_s <= 0:
                idler.work()
                reporter.optimizing(None)
            else:
                pause_s = min(_POLL_S, idle_in_s)
        except (NoSpace, StoreBusy, Damaged) as error:
            if pipeline.stop.is_set():
                break
            log.error("compressing pauses for %.0f s: %s", _RETRY_S, error)
            pause_s = _RETRY_S
        store.packs.forget_deleted()  # also, and above all, when there is no space
        wake.wait(pause_s)
    pipeline.close()


def _listen(pipeline: Pipeline, wake: threading.Event) -> None:
    for _ in sys.stdin:
        wake.set()
    _stop(pipeline, wake)


def _stop(pipeline: Pipeline, wake: threading.Event) -> None:
    pipeline.stop.set()
    wake.set()
