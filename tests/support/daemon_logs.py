"""A pytest plugin: a test fails on any warning, error or traceback in the log of a daemon that it did not expect.

The log of a store holds what its daemon has to say, the worker below that, and anything that writes to their standard
error. `tests/support/mounts.py` has every store watched that it makes a mount for. A test says what it expects by
`@pytest.mark.expected_log("regular expression", ...)`, or by the fixture `expected_log` once it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

_ENTRY: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ (?P<level>[A-Z]+) ")
_QUIET: Final = frozenset({"DEBUG", "INFO"})


def entries_of(text: str) -> list[str]:
    """Return the messages of a log: one with its indented lines, or all lines in a row that nothing dated."""
    entries: list[str] = []
    is_dated = True
    for line in filter(None, text.splitlines()):
        if _ENTRY.match(line) or (is_dated and not line.startswith(" ")) or not entries:
            entries.append(line)
            is_dated = _ENTRY.match(line) is not None
        else:
            entries[-1] += f"\n{line}"
    return entries


def is_trouble(entry: str) -> bool:
    """Return whether a message is a warning or worse, holds a traceback, or was not written by `logging` at all."""
    begin = _ENTRY.match(entry)
    return begin is None or begin["level"] not in _QUIET or "Traceback (most recent call last)" in entry


class DaemonLogs:
    """The logs that are watched, how far each was read, and the trouble in them that was not expected."""

    def __init__(self) -> None:
        self.expected: list[str] = []
        self._read: dict[Path, int] = {}
        self._trouble: list[str] = []

    def watch(self, log: Path) -> None:
        self._read.setdefault(log, 0)

    def forget(self, log: Path) -> None:
        """Look at a log for the last time: it is about to be removed."""
        self.read()
        self._read.pop(log, None)

    def read(self) -> None:
        """Take what was written since the last look."""
        for log, begin in self._read.items():
            try:
                content = log.read_bytes()
            except OSError:
                continue
            fresh = content[begin:] if len(content) >= begin else content  # it was rotated, or made anew
            complete = fresh[: fresh.rfind(b"\n") + 1]
            self._read[log] = len(content) - len(fresh) + len(complete)
            self._trouble += filter(is_trouble, entries_of(complete.decode(errors="replace")))

    def unexpected(self) -> list[str]:
        """Return the trouble that nobody expected, once."""
        self.read()
        found = [entry for entry in self._trouble if not any(re.search(known, entry) for known in self.expected)]
        self._trouble.clear()
        return found


LOGS: Final = DaemonLogs()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "expected_log(regex, ...): what a daemon's log may say that is no good news")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    LOGS.expected[:] = [regex for mark in item.iter_markers("expected_log") for regex in mark.args]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    yield
    found = LOGS.unexpected()
    if found:
        pytest.fail("the log of a daemon has what nobody expected:\n" + "\n".join(found), pytrace=False)


@pytest.fixture
def expected_log() -> Callable[[str], None]:
    """Say, in the test, what a daemon's log is going to hold: a regular expression."""
    return LOGS.expected.append
