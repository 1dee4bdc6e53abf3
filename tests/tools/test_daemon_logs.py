"""What the plugin takes for trouble in the log of a daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.daemon_logs import DaemonLogs, entries_of, is_trouble

BEGIN = "2026-11-30 03:00:00,123 4711 {} zipfs.mount: {}\n"
QUIET = BEGIN.format("INFO", "mounted")
WARNING = BEGIN.format("WARNING", "something is odd")
TRACEBACK = BEGIN.format("INFO", "a failure") + "    Traceback (most recent call last):\n    ValueError\n"
STDERR = "Exception ignored in: <function>\n"


@pytest.mark.parametrize(
    ("text", "trouble"), [(QUIET, 0), (WARNING, 1), (TRACEBACK, 1), (STDERR, 1), (WARNING + QUIET + TRACEBACK, 2)]
)
def test_trouble_is_found(text: str, trouble: int) -> None:
    assert sum(map(is_trouble, entries_of(text))) == trouble


def test_what_was_expected_or_told_before_is_not_told(tmp_path: Path) -> None:
    log, logs = tmp_path / "zipfs.log", DaemonLogs()
    logs.watch(log)
    assert logs.unexpected() == []
    log.write_text(QUIET + WARNING)
    assert logs.unexpected() == [WARNING.rstrip("\n")]
    with open(log, "a") as file:
        file.write(WARNING + STDERR[:10])
    logs.expected.append("something is odd$")
    assert logs.unexpected() == []
    with open(log, "a") as file:
        file.write(STDERR[10:])
    logs.forget(log)
    log.unlink()
    assert logs.unexpected() == [STDERR.rstrip("\n")]
