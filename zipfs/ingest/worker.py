"""The worker: the process that compresses for a mount. It runs `zipfs ingest`'s own code at a low priority.

It ends when its standard input does, so that it never outlives the mount; a line there says that there is something
new. What it is doing goes to standard output, one JSON object a line, and so do its log messages: the daemon alone
writes the log. What it says to standard error is kept as its last words.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from zipfs.errors import NoSpace, Stopped, StoreBusy, ZipfsError
from zipfs.ingest.optimize.when_idle import Idler
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import drain
from zipfs.ingest.rank import lower_rank
from zipfs.store.disk.stopping import Stop, stopping_on_signals
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_PATH_OOM = Path("/proc/self/oom_score_adj")
_OOM_SCORE = "500"
_REPORT_EVERY_S = 0.25
_RETRY_S = 5.0
_RETRY_AT_MOST_S = 300.0
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

    def goes_on(self) -> None:
        """Nothing is waited for any more."""
        if self._state.get("waiting") is not None:
            self._tell(now=True, waiting=None)

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
    lower_rank()
    with suppress(OSError):
        _PATH_OOM.write_text(_OOM_SCORE)


def run(store: Store, threads: int, optimize_after_s: float | None) -> None:
    """Compress what is queued until standard input ends or SIGTERM comes; what is under way stays in the spool.

    When nothing has come for `optimize_after_s` the store is optimized, unless that is None. Whatever goes wrong is
    logged and tried again.
    """
    _yield_to_others()
    reporter = Reporter()
    wake = Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a mount in the foreground is the mount's to handle
    with stopping_on_signals(store.stop, wake, numbers=(signal.SIGTERM,)):
        threading.Thread(target=_listen, args=(store.stop, wake), daemon=True).start()
        pipeline = Pipeline(store, reporter, threads=threads)
        try:
            _Rounds(store, pipeline, reporter, wake, optimize_after_s).run()
        except Stopped:
            log.info("stopped; what is not compressed stays in the spool")
        finally:
            pipeline.close()


class _Rounds:
    """What a worker does again and again: compress what has come, or be idle."""

    def __init__(
        self, store: Store, pipeline: Pipeline, reporter: Reporter, wake: Stop, optimize_after_s: float | None
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._reporter = reporter
        self._wake = wake
        self._idler = Idler(store, wake, reporter.optimizing)
        self._after_s = math.inf if optimize_after_s is None else optimize_after_s
        self._busy_s = time.monotonic()
        """When there was something to do last."""

    def run(self) -> None:
        """Raises Stopped."""
        retry_s = _RETRY_S
        while True:
            self._wake.clear()
            self._store.stop.check()  # after `clear`, which forgets that the worker was woken to stop
            try:
                pause_s = self._round()
                retry_s = _RETRY_S
                self._reporter.goes_on()
            except Stopped:
                self._store.stop.check()
                continue  # idle work that gives way
            except Exception as error:  # the next round may do better, and reading goes on anyway
                if isinstance(error, ZipfsError | OSError):
                    log.error("compressing pauses for %.0f s: %s", retry_s, error)
                else:
                    log.error("compressing pauses for %.0f s: a bug in ZipFS", retry_s, exc_info=error)
                self._reporter.waiting(f"it failed and is tried again: {error}")
                pause_s = retry_s
                if not isinstance(error, NoSpace | StoreBusy):
                    retry_s = min(2 * retry_s, _RETRY_AT_MOST_S)
            self._store.packs.release_deleted()  # also, and above all, when there is no space
            self._wake.wait(pause_s)

    def _round(self) -> float:
        """Compress, or else be idle; returns for how many seconds nothing is to be done."""
        if drain(self._store, self._pipeline):
            self._busy_s = time.monotonic()
            self._pipeline.rebase()
            self._idler.tidy()
        idle_in_s = self._busy_s + self._after_s - time.monotonic()
        if idle_in_s > 0:
            return min(_POLL_S, idle_in_s)
        self._idler.work()
        self._reporter.optimizing(None)
        return _POLL_S


def _listen(stop: Stop, wake: Stop) -> None:
    for _ in sys.stdin:
        wake.set()
    stop.set()
    wake.set()
