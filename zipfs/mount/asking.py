"""Asks a mount that may hang: by another process, for a limited time.

Who reads from a mount that hangs may not even be killed. So what touches a path that can lie in a mount is done by a
child, which is left alone when it takes too long. Every command asks here; a daemon never does, of its own mount.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zipfs.errors import PathError
from zipfs.host import own_environment

ANSWER_S: Final = 10.0
_END_S: Final = 1.0
_NBYTES_AT_MOST: Final = 64 << 20
_NOT_THERE: Final = ("No such file or directory", "Not a directory")


class NotThere(PathError):
    """{0}: no ZipFS store is mounted there now"""


class Hangs(PathError):
    """{0}: the mount has not answered for {1:.0f} s; it is overloaded or hangs. `zipfs umount --lazy` detaches it"""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int
    out: bytes
    said: str
    """What it wrote to its standard error."""

    @property
    def reason(self) -> str:
        """Return why it failed, without the names before that."""
        return self.said.strip().rpartition(": ")[2]


def run_within(command: list[str], within_s: float) -> Ended | None:
    """Run a program. Return None if it has not ended in time; it is killed then, if that can be."""
    environment = {**own_environment(os.environ), "LC_ALL": "C"}
    process = subprocess.Popen(
        command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, said = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()  # does nothing where it has ended
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return Ended(process.returncode, out, said.decode(errors="replace"))


def ask(mount: Path, name: str, *, within_s: float = ANSWER_S) -> bytes:
    """Return what a mount says in its file `.zipfs/NAME`. Raises NotThere, Hangs, PathError."""
    path = os.path.abspath(mount / ".zipfs" / name)
    found = run_within(["head", "-c", str(_NBYTES_AT_MOST), "--", path], within_s)
    if found is None:
        raise Hangs(mount, within_s)
    if found.code == 0:
        return found.out
    if found.reason in _NOT_THERE:
        raise NotThere(mount)
    if found.reason == "Permission denied":
        raise PathError(mount, "you may not see that; the owner of the mount and root may")
    raise PathError(mount, f"the mount does not answer: {found.reason}. Mount it again")


def ask_status(mount: Path, *, within_s: float = ANSWER_S) -> dict[str, Any]:
    """Return what a mount says of itself in `status.json`. Raises NotThere, Hangs, PathError."""
    try:
        found = json.loads(ask(mount, "status.json", within_s=within_s))
    except (ValueError, RecursionError) as error:
        raise PathError(mount, f"its status cannot be read ({error}); is it mounted by another version?") from error
    if not isinstance(found, dict):
        raise PathError(mount, "its status is no JSON object; is it mounted by another version?")
    return found


def real_path(path: str, *, within_s: float = ANSWER_S) -> str:
    """Return a path with no symlink in it, as `os.path.realpath`. Raises Hangs."""
    found = run_within(["realpath", "-m", "-z", "--", os.path.abspath(path)], within_s)
    if found is None:
        raise Hangs(path, within_s)
    return os.fsdecode(found.out.removesuffix(b"\0")) if found.code == 0 else os.path.abspath(path)
