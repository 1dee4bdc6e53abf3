"""One side of a comparison, as a case of try_clients sees it: a plain disk, or a mounted store.

A case runs in a process of its own, once on each side, and notes what it sees. Whatever it asks of the mount may hang:
tools/clients/__main__.py, which started it, then gives up the mount and the case.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]
ZIPFS = ROOT / ".venv" / "bin" / "zipfs"
LINGER_S = 4.0
SOON_S = 60.0
OF_THE_MOUNT = frozenset({"ingest", ".zipfs"})
"""Names at the top of a mount that no case has made."""


class Place(StrEnum):
    """Where a case writes."""

    DISK = "disk"
    INGEST = "ingest"
    TREE = "tree"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a store is mounted for a case, and where in the mount the case writes."""

    place: Place
    quiet_s: float

    @property
    def options(self) -> tuple[str, ...]:
        """Of `zipfs mount`."""
        return ("--quiet", f"{self.quiet_s:g}", "--linger", f"{LINGER_S:g}", "--no-optimize")


SETTINGS = {
    "ingest": Setting(Place.INGEST, 2.0),
    "tree": Setting(Place.TREE, 2.0),
    "hasty": Setting(Place.TREE, 0.2),
}
"""By the names that people type. With `hasty`, what was written is compressed before a program writes to it again."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a case saw. Both sides have to see the same, unless it is `promised` otherwise of a mount.

    What is not `compared` is only told, such as how long something took.
    """

    what: str
    value: object
    promised: object = None
    compared: bool = True


@dataclass(slots=True)
class Side:
    """Where a case writes (`target`), where that is read (`served`), and a directory of a disk for what it needs.

    In the served tree of a mount, and on a disk, the first two are one.
    """

    place: Place
    target: Path
    served: Path
    scratch: Path
    quiet_s: float = 0.0
    store: Path | None = None
    notes: list[Note] = field(default_factory=list)
    varying: tuple[str, ...] = ()
    """Patterns of files that are not the same twice, whatever they lie on."""
    expected_log: tuple[str, ...] = ()
    """Words that a warning of the daemon may have in this case."""

    @property
    def is_mount(self) -> bool:
        return self.place != Place.DISK

    @property
    def is_ingest(self) -> bool:
        return self.place == Place.INGEST

    def note(self, what: str, value: object, *, promised: object = None) -> None:
        """Both sides have to note the same; with `promised`, `ingest/` that, and a disk whatever it shows."""
        self.notes.append(Note(what, value, promised if self.is_ingest else None))

    def tell(self, what: str, value: object) -> None:
        """Note something that is not compared."""
        self.notes.append(Note(what, value, compared=False))

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
        if self.is_ingest:
            time.sleep(LINGER_S + self.quiet_s + 1)

    def pause(self, seconds: float) -> None:
        """A disk has nothing that could happen meanwhile."""
        if self.is_mount:
            time.sleep(seconds)

    @property
    def seal_s(self) -> float:
        """Seconds after which what was written is sealed; none on a disk."""
        return self.quiet_s + 1.5 if self.is_mount else 0.0

    def seal_pause(self) -> None:
        """Let so much time pass that what was written is sealed."""
        self.pause(self.seal_s)


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
    """Call a function of a module with texts in a process of its own; what it prints. Raises RuntimeError if it fails.

    The process is a fork of this one, which has imported what takes seconds to import.
    """
    process = _Fork(module, function, arguments)
    process.tell_to_end()
    return process.end()


@contextmanager
def beside(module: str, function: str, *arguments: object) -> Iterator[list[str]]:
    """Call a function of a module with texts in a process of its own for as long as the block runs.

    The function ends when `is_told_to_end`; then the list has the lines that it printed. Raises RuntimeError if it
    fails.
    """
    said: list[str] = []
    process = _Fork(module, function, arguments)
    try:
        yield said
    finally:
        process.tell_to_end()
        printed_by_it = process.end()
    said += printed_by_it.splitlines()


def is_told_to_end() -> bool:
    """Return whether the standard input of this process has ended, which `beside` started."""
    os.set_blocking(0, False)
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False


class _Fork:
    """A function that runs in a fork of this process, which holds its standard input and output."""

    held: ClassVar[set[int]] = set()
    """Descriptors that only this process may have: a pipe ends when nobody has its other end."""

    def __init__(self, module: str, function: str, arguments: Sequence[object]) -> None:
        self._function = function
        out, its_out = os.pipe()
        its_in, self._in = os.pipe()
        self._out = out
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            for number in (*_Fork.held, self._in, out):
                os.close(number)
            os.dup2(its_in, 0)
            os.dup2(its_out, 1)
            os.dup2(its_out, 2)
            os._exit(_carry_out(module, function, arguments))
        os.close(its_in)
        os.close(its_out)
        _Fork.held |= {self._in, out}

    def tell_to_end(self) -> None:
        _Fork.held.remove(self._in)
        os.close(self._in)

    def end(self) -> str:
        """What it has printed, once it has ended. Raises RuntimeError if it failed."""
        with os.fdopen(self._out, errors="replace") as file:
            said = file.read()
        _Fork.held.remove(self._out)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if status:
            raise RuntimeError(f"{self._function} ended with {status}: {said[-2000:]}")
        return said


def _carry_out(module: str, function: str, arguments: Sequence[object]) -> int:
    """Call a function of a module with texts; the exit code."""
    with open(1, "w", buffering=1, closefd=False) as output:
        sys.stdout = sys.stderr = output
        try:
            getattr(import_module(module), function)(*map(str, arguments))
        except BaseException:  # noqa: BLE001  # its parent is told
            traceback.print_exc()
            return 1
        return 0


def printed(said: str, mark: str = "@") -> list[str]:
    """The lines that a process printed for its parent, among what libraries have to say."""
    return [line[len(mark) :] for line in said.splitlines() if line.startswith(mark)]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def tree(directory: Path, without: str = "") -> dict[str, str]:
    """Every file below a directory with its sum, every symbolic link with its target; not what is in `without`."""
    found = {}
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != without]
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = Path(folder, name)
            found[str(path.relative_to(directory))] = content(path)
    return found


def everything(directory: Path) -> dict[str, str]:
    """What cases have made in a mount, or on a disk."""
    found = {}
    for name in set(names(directory)) - OF_THE_MOUNT:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            found.update({f"{name}/{below}": one for below, one in tree(path).items()})
        else:
            found[name] = content(path)
    return found


def content(path: Path) -> str:
    """A file's sum, or where a symbolic link leads."""
    return f"-> {os.readlink(path)}" if path.is_symlink() else sha256(path)


def excluding(found: Mapping[str, str], patterns: tuple[str, ...]) -> dict[str, str]:
    return {name: one for name, one in found.items() if not any(fnmatch(name, pattern) for pattern in patterns)}


def digest(found: Mapping[str, str]) -> str:
    """Of a tree, in a few letters."""
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()[:12]


def difference(one: Mapping[str, str], other: Mapping[str, str]) -> str:
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
