"""A request to stop reaches whoever waits, also when a signal makes it at the worst of moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.support.mounts import REPOSITORY
from zipfs.errors import Stopped
from zipfs.store.disk.stopping import Stop, stopping_on_signals

STORM = """
import random, signal
from zipfs.store.disk.stopping import Stop
for _ in range(3000):
    stop = Stop()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 3e-4))
    while not stop.wait(1e-5):
        pass
"""
"""A timer that sets the request in the very thread that waits for it, wherever that is just then."""


def test_a_signal_may_come_at_any_instant_of_a_wait() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], cwd=REPOSITORY, timeout=60, check=False)
    assert done.returncode == 0


def test_a_long_wait_ends_when_a_signal_or_a_thread_asks_for_it() -> None:
    began_s = time.monotonic()
    for ask in (lambda stop: stop.set(), lambda stop: os.kill(os.getpid(), signal.SIGUSR1)):
        stop = Stop()
        with stopping_on_signals(stop, numbers=(signal.SIGUSR1,)):
            threading.Timer(0.05, ask, (stop,)).start()
            assert stop.wait(600)
        with pytest.raises(Stopped):
            stop.check()
    assert time.monotonic() - began_s < 60


def test_all_who_wait_are_told() -> None:
    stop = Stop()
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(stop.wait(600))) for _ in range(8)]
    for thread in threads:
        thread.start()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert told == [True] * 8


def test_a_request_can_be_forgotten() -> None:
    stop = Stop()
    stop.set()
    stop.set()
    stop.clear()
    assert not stop.wait(0.01)
    stop.check()


def test_handlers_are_as_before_when_the_work_is_done() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping_on_signals(Stop()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
