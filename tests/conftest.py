"""What every test shares: the Hypothesis profiles, and the marks of whole folders.

HYPOTHESIS_PROFILE chooses a profile: `default`; `ci`, which tries the same examples each time and is chosen when CI is
set; `fast`, a few examples, for `tools/test --fast`; `thorough`, for a search that may take long.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.daemon_logs"]

HERE: Final = Path(__file__).parent
MARKS: Final = {
    HERE / "mount": pytest.mark.mount,
    HERE / "crash": pytest.mark.crash,
    HERE / "property": pytest.mark.slow,
}
"""Folder -> the mark of everything in it."""

# Two busy cores make any single example slow now and then; pytest-timeout bounds the whole test instead.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("default", parent=_PATIENT, max_examples=100)
settings.register_profile("ci", parent=_PATIENT, max_examples=100, derandomize=True, database=None, print_blob=True)
settings.register_profile("fast", parent=_PATIENT, max_examples=10, derandomize=True, database=None)
settings.register_profile("thorough", parent=_PATIENT, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

# A shell that starts the tests in the background has them, and whatever they start and interrupt, ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder, mark in MARKS.items():
            if folder in item.path.parents:
                item.add_marker(mark)
