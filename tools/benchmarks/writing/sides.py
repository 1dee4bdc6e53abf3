"""What is written to: the disk of the store, a mount that does as little as can be done, and a mount of ZipFS.

Nothing here looks at a path inside a mount: that is for processes which can be given up.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.benchmarks.reading.contenders import BIN, Contender, Daemon, Trouble, run

HERE = Path(__file__).resolve().parent
ASK_S = 30.0
REMOVE_S = 300.0
SLOWEST_B_S = 2e6
_COUNT = re.compile(r'^zipfs_operation_duration_seconds_count\{operation="(\w+)"\} (\d+)', re.MULTILINE)
_NBYTES = re.compile(r'^zipfs_operation_bytes_total\{operation="write"\} (\d+)', re.MULTILINE)

DISK, NOTHING, DROPPING, INGEST, TREE = "disk", "do-nothing mount", "the same, dropping all", "ingest/", "tree"
WRITEBACK = ", writeback cache"


@dataclass(frozen=True, slots=True)
class Spent:
    """What writing has taken: seconds on the clock, and of processors by the writer and by the daemon."""

    seconds: float
    writer_s: float
    daemon_s: float

    @property
    def processor_s(self) -> float:
        return self.writer_s + self.daemon_s


@dataclass(slots=True)
class Side:
    """A directory to write to, and whose it is. `point` is where the mount has its top, if it tells of its requests."""

    name: str
    directory: Path
    owner: Contender
    point: Path | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def copy(self, sources: Sequence[Path], nbytes: int) -> Spent:
        return self._spend(["cp", "-t", self.directory, *sources], nbytes)[0]

    def write(self, name: str, nbytes_each: int, count: int) -> Spent:
        """Write a file in small pieces. The seconds on the clock are without the start of Python."""
        arguments = (self.directory / name, str(nbytes_each), str(count))
        spent, said = self._spend([sys.executable, "-P", HERE / "writer.py", *arguments], nbytes_each * count)
        return Spent(float(said), spent.writer_s, spent.daemon_s)

    def clear(self) -> None:
        """Remove all files. Raises Trouble."""
        run("find", self.directory, "-xdev", "-maxdepth", "1", "-type", "f", "-delete", timeout_s=REMOVE_S)

    def requests(self) -> dict[str, int]:
        """Requests of each kind since the last call, and `write bytes`; nothing where none are counted."""
        if self.point is None:
            return {}
        asked = subprocess.run(
            ["cat", self.point / ".zipfs" / "metrics"], capture_output=True, text=True, timeout=ASK_S, check=False
        )
        if asked.returncode != 0:
            raise Trouble(f"{self.name} does not tell of its requests: {asked.stderr.strip()}")
        before, self.counts = self.counts, {kind: int(count) for kind, count in _COUNT.findall(asked.stdout)}
        found = _NBYTES.search(asked.stdout)
        self.counts["write bytes"] = 0 if found is None else int(found[1])
        return {kind: count - before.get(kind, 0) for kind, count in self.counts.items()}

    def _spend(self, command: Sequence[str | Path], nbytes: int) -> tuple[Spent, str]:
        daemon_s, writer_s, began_s = self.owner.cpu_s(), _children_s(), time.perf_counter()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=ASK_S + nbytes / SLOWEST_B_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            self.owner.abort()
            raise Trouble(f"{self.name} hangs: {error}") from error
        seconds = time.perf_counter() - began_s
        if done.returncode != 0:
            raise Trouble(f"{self.name}: {done.stderr.strip().splitlines()[-1]}")
        return Spent(seconds, _children_s() - writer_s, self.owner.cpu_s() - daemon_s), done.stdout


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_sides(place: Path, *, writeback: bool) -> list[Side]:
    """All of them below one directory, so on one disk; the mounts are started by `start`."""

    def directory(name: str) -> Path:
        path = place / name
        path.mkdir()
        return path

    def mount(name: str, *options: str) -> Daemon:
        point = directory(f"{name}-mount")
        command: tuple[str | Path, ...] = (
            BIN / "zipfs",
            "mount",
            "-f",
            "--quiet",
            "3600",
            "--no-optimize",
            *options,
            place / name,
            point,
        )
        return Daemon("ZipFS", point, command=command, point=point, log=place / f"{name}.log")

    def nothing(name: str, *options: str) -> Side:
        point = directory(f"{name}-mount")
        command: tuple[str | Path, ...] = (sys.executable, "-P", HERE / "nothing.py", directory(name), point, *options)
        daemon = Daemon(NOTHING, point, command=command, point=point, log=place / f"{name}.log")
        return Side(DROPPING if options else NOTHING, point, daemon)

    sides = [Side(DISK, directory("disk"), Contender(DISK, place)), nothing("nothing"), nothing("dropped", "--drop")]
    for name, options in (("store", ()), *((("written-back", ("--writeback-cache",)),) if writeback else ())):
        daemon = mount(name, *options)
        suffix = WRITEBACK if options else ""
        sides.append(Side(INGEST + suffix, daemon.point / "ingest", daemon, daemon.point))
        sides.append(Side(TREE + suffix, daemon.point, daemon, daemon.point))
    return sides
