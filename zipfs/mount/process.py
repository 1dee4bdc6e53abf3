"""What the daemon of a mount makes of itself before it serves: of what started it, it keeps only what it needs.

Its interpreter and environment come from `zipfs.host`; descriptors are closed by whoever starts it.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import Final

_RAISED: Final = ("NOFILE", "FSIZE", "AS", "DATA", "CPU")
"""Limits under which a mount would fail halfway: too few files, a pack or a catalog cut off, no memory, killed."""
_PYTHONS_OWN: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Ignored by every Python program, which gets EPIPE and EFBIG instead."""
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def become_daemon(*, in_front: bool) -> None:
    """Take the directory, umask, signals and limits of a daemon.

    One that stays in front goes on ignoring what it was started to ignore, such as the hang-up of its terminal.
    """
    os.chdir("/")
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    kept = _PYTHONS_OWN | (set(_STOPPING) if in_front else set())
    for number in signal.valid_signals() - kept:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for name in _RAISED:
        _raise(getattr(resource, f"RLIMIT_{name}"))


def _raise(limit: int) -> None:
    soft, hard = resource.getrlimit(limit)
    if soft != hard:
        try:
            resource.setrlimit(limit, (hard, hard))
        except (OSError, ValueError):
            return  # a sandbox may forbid it; the mount serves under the lower limit


def remaining_limits() -> list[str]:
    """Return limits that hold and may one day end the mount or fail a write, as text."""
    found = ((name, resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]) for name in _RAISED if name != "NOFILE")
    return [f"RLIMIT_{name} is {limit}" for name, limit in found if limit != resource.RLIM_INFINITY]


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that end a mount in order: not those that whoever started it has it ignore."""
    return [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
