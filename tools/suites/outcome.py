"""What try_suites notes of one test, and how it runs a program that may hang."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PASS, FAIL, SKIP = "pass", "fail", "skip"
KILLED_S = 20.0
WORDS = 160


class Trouble(Exception):
    """A suite could not be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test. `words` say what was expected and found, where something failed or was left out."""

    group: str
    test: str
    verdict: str
    words: str = ""

    @property
    def key(self) -> str:
        return f"{self.group}/{self.test}"


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended: its exit code, None if it was killed for taking too long, and what it printed."""

    code: int | None
    text: str

    def last(self, lines: int = 4) -> str:
        """Return the last lines as one."""
        return shorten(" | ".join(self.text.strip().splitlines()[-lines:]))


def shorten(words: str) -> str:
    words = re.sub(r"[0-9a-f]{32}", "", " ".join(words.split()))
    return words if len(words) <= WORDS else f"{words[: WORDS // 2 - 3]} ... {words[-WORDS // 2 + 3 :]}"


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    timeout_s: float,
    output: Path,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Run a program with all that it starts, and return how it ended.

    Raises Trouble if it cannot even be killed: then it waits for a file system that does not answer.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        code: int | None = None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(KILLED_S)
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"{Path(command[0]).name} cannot be killed") from error
    return Done(code, output.read_text(errors="replace"))
