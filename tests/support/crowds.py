"""Many programs that read one mount at once, watched so that none hangs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import REPOSITORY, Mount
from tests.support.plain import Spec

PATIENCE_S: Final = 60.0
"""Whoever makes no step for so long hangs."""


class Crowd:
    """The programs that read, each in a process of its own."""

    def __init__(self, mount: Mount, spec: Spec, directory: Path, roles: list[str], seed: int, rounds: int = 0) -> None:
        self._mount = mount
        written = spec.write(directory / "spec.json")
        self._running: list[tuple[str, Path, subprocess.Popen[str]]] = []
        for number, role in enumerate(roles):
            beat = directory / f"beat-{number}"
            beat.touch()
            command = [sys.executable, "-m", "tests.support.reading", role, seed + number, written, beat, rounds]
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
            )  # fmt: skip
            self._running.append((f"{role}, seed {seed + number}", beat, process))

    def busy(self) -> bool:
        """Whether any reads still; fails where one hangs."""
        self._mount.guard()
        for name, beat, process in self._running:
            if process.poll() is None and time.time() - beat.stat().st_mtime > PATIENCE_S:
                held = "".join(path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/stack"))
                self.end()
                pytest.fail(f"{name} hangs: {held}\n{self._mount.log()[-3000:]}")
        return any(process.poll() is None for _, _, process in self._running)

    def failures(self) -> list[str]:
        """What those that have ended had to say, and any that made no round at all."""
        found = []
        for name, _, process in self._running:
            said, errors = process.communicate(timeout=PATIENCE_S)
            if process.returncode or not int(said):
                found.append(f"{name} ended with {process.returncode}: {errors[-3000:]}")
        return found

    def end(self) -> None:
        """Whatever state they are in."""
        if any(process.poll() is None for _, _, process in self._running):
            self._mount.abort()
        for _, _, process in self._running:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=180)


@contextmanager
def crowd(mount: Mount, spec: Spec, directory: Path, roles: list[str], seed: int, rounds: int = 0) -> Iterator[Crowd]:
    found = Crowd(mount, spec, directory, roles, seed, rounds)
    try:
        yield found
    finally:
        found.end()
