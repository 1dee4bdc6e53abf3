"""What tests of commands share."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.commands import Done, Run
from zipfs.cli.main import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`zipfs` in this process: its exit code and what it wrote. Anything but an exit is a bug."""

    def run_command(*arguments: object) -> Done:
        capfdbinary.readouterr()
        texts = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments]
        monkeypatch.setattr(sys, "argv", ["zipfs", *texts])
        rank = os.getpriority(os.PRIO_PROCESS, 0)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        if (
            os.getpriority(os.PRIO_PROCESS, 0) != rank and os.geteuid() == 0
        ):  # the tests that follow are not to give way
            os.setpriority(os.PRIO_PROCESS, 0, rank)
        sys.stdout.flush()
        sys.stderr.flush()
        captured = capfdbinary.readouterr()
        return Done(code, captured.out, captured.err.decode(errors="replace"))

    return run_command
