"""Requests are read and answered by functions of our own, which leave the interpreter to other threads."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.support.mounts import REPOSITORY


def _bound(name: str, code: str) -> list[tuple[str, str]]:
    """What the dynamic linker binds calls of `name` to while `code` runs: who calls, and who is called."""
    environment = {**os.environ, "LD_DEBUG": "bindings", "LD_BIND_NOW": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=True,
        cwd=REPOSITORY,
        env=environment,
    )
    found = re.findall(rf"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `{name}'", done.stderr)
    return [(os.path.basename(caller).split(".")[0], called) for caller, called in found]


def test_pyfuse3_begins_with_the_function_that_has_requests_read_and_answered_by_our_own() -> None:
    assert ("__init__", _native_path()) in _bound("fuse_session_fd", "import zipfs.mount.daemon")


def test_nothing_else_is_seen_by_other_libraries() -> None:
    names = subprocess.run(
        ["nm", "-D", "--defined-only", _native_path()], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split("\n")
    assert sorted(line.split()[-1] for line in names if line) == ["PyInit__native", "fuse_session_fd"]


def _native_path() -> str:
    code = "from zipfs.mount import _native; print(_native.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=REPOSITORY
    )
    return done.stdout.strip()
