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
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        captured = capfdbinary.readouterr()
        return Done(code, captured.out, captured.err.decode(errors="replace"))

    return run_command
