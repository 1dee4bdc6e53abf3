"""One side of a comparison, as a case of try_clients sees it: a plain disk, or a mounted store.

A case runs in a process of its own, once on each side, and notes what it sees. Whatever it asks of the mount may hang:
tools/try_clients.py, which started it, then gives up the mount and the case.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ZIPFS = ROOT / ".venv" / "bin" / "zipfs"
QUIET_S = 2.0
LINGER_S = 4.0
OPTIONS = ("--quiet", f"{QUIET_S:g}", "--linger", f"{LINGER_S:g}", "--no-optimize")
SOON_S = 60.0
CHUNK_NBYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a case saw. Both sides have to see the same, unless it is `promised` otherwise of a mount."""

    what: str
    value: object
    promised: object = None


@dataclass(slots=True)
class Side:
    """Where a case writes (`ingest`), where that is read (`served`), and a directory of a disk for what it needs."""

    ingest: Path
    served: Path
    scratch: Path
    store: Path | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def is_mount(self) -> bool:
        return self.store is not None

    def note(self, what: str, value: object, *, promised: object = None) -> None:
        """Both sides have to note the same; with `promised`, a mount that, and the disk whatever it shows."""
        self.notes.append(Note(what, value, promised))

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SOON_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {SOON_S:.0f} s")
            time.sleep(0.02)

    def wait_until_served(self) -> str:
        """Wait until everything that is finished is served and compressed; what `zipfs wait` says. A disk is quick."""
        if not self.is_mount:
            return ""
        done = subprocess.run(
            [ZIPFS, "wait", "--timeout", "120", self.served], capture_output=True, text=True, timeout=180, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"zipfs wait ended with {done.returncode}: {done.stdout}{done.stderr}")
        return f"exit code {done.returncode}. {done.stdout}{done.stderr}"

    def outlast_linger(self) -> None:
        """Let so much time pass that nothing lingers any more."""
        self.wait_until_served()
        if self.is_mount:
            time.sleep(LINGER_S + QUIET_S + 1)

    def pause(self, seconds: float) -> None:
        """A disk has nothing that could happen meanwhile."""
        if self.is_mount:
            time.sleep(seconds)

    def seal_pause(self) -> None:
        """Let so much time pass that what was written is sealed."""
        self.pause(QUIET_S + 1.5)


def run(
    *command: object, cwd: Path | None = None, check: bool = True, environment: Mapping[str, str] | None = None
) -> str:
    """What a program prints, with its errors; it has to succeed unless told otherwise."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=240,
        check=False,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout if check else f"{done.stdout}exit code {done.returncode}"


def again(module: str, function: str, *arguments: object) -> str:
    """Call a function of a module with texts in a process of its own; what it prints."""
    code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
    return run(sys.executable, "-c", code, *arguments, cwd=ROOT)


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def tree(directory: Path, without: str = "") -> dict[str, str]:
    """Every file below a directory with its sum, every symbolic link with its target; not what is in `without`."""
    found = {}
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != without]
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = Path(folder, name)
            relative = str(path.relative_to(directory))
            found[relative] = f"-> {os.readlink(path)}" if path.is_symlink() else sha256(path)
    return found


def difference(one: dict[str, str], other: dict[str, str]) -> str:
    """In words; "the same" where there is none."""
    if one == other:
        return "the same"
    said = [
        (f"{len(one.keys() - other.keys())} missing", one.keys() - other.keys()),
        (f"{len(other.keys() - one.keys())} too many", other.keys() - one.keys()),
        ("other content", {name for name in one.keys() & other.keys() if one[name] != other[name]}),
    ]
    return "; ".join(f"{words}: {', '.join(sorted(found)[:4])}" for words, found in said if found)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def status(side: Side) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(ZIPFS, "status", "--json", side.served))
    return found
