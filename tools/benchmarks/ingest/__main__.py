"""Measures ingest: GB a CPU second, GB/s, cores used and resident memory, of large tensors and of small ones.

Each turn is one process, whose CPU seconds (user and system, all threads) and resident memory the kernel counts; what
it reads is in the page cache. With a second checkout both take turns within each round, in the other order each time,
and what they have stored has to be the same; a figure is the median of the rounds, a ratio the median of those of the
rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tools.benchmarks.ingest.data import make_large, make_small

HERE: Final = Path(__file__).resolve().parents[3]
PATIENCE_S: Final = 3600.0
WATCHED: Final = """
import json, resource, subprocess, sys, time
began_s = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
wall_s = time.perf_counter() - began_s
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall_s, used.ru_utime, used.ru_stime, used.ru_maxrss / 1024, used.ru_minflt]))
"""
"""Runs in a small process: what a command is started from counts as resident memory of the command."""
LIST_BLOBS: Final = """
import sys
from pathlib import Path
from zipfs.store.store import open_store
with open_store(Path(sys.argv[1]), read_only=True) as store:
    for name in store.packs.names():
        for packed in store.packs.open(name).index():
            blob = packed.blob
            print(blob.id, blob.nbytes, blob.fingerprint.hex(), blob.dtype, blob.shape, blob.base, packed.stored_sum)
"""
READ_ALL: Final = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            buffer = bytearray(1 << 20)
            while file.readinto(buffer): pass
"""
GOALS: Final = {"base": 0.45, "tuned": 0.32, "small": 0.15}
"""GB a CPU second."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one ingest of `nbytes` bytes took."""

    nbytes: int
    wall_s: float
    user_s: float
    system_s: float
    resident_mib: float
    faults: int

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


@dataclass(slots=True)
class Side:
    """A checkout, what it stores, and its turns at each row."""

    name: str
    checkout: Path
    folder: Path
    turns: dict[str, list[Turn]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def ingest(self, model: Path, options: Sequence[str]) -> Turn:
        command: list[str | Path] = [self.checkout / ".venv/bin/zipfs", "ingest", self.store, model, *options]
        wall_s, user_s, system_s, resident_mib, faults = json.loads(_python(sys.executable, WATCHED, *command))
        nbytes = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        return Turn(nbytes, wall_s, user_s, system_s, resident_mib, int(faults))

    def stored_digest(self) -> str:
        """Return a digest over all blobs and their stored bytes."""
        rows = _python(self.checkout / ".venv/bin/python", LIST_BLOBS, self.store, folder=self.checkout)
        return hashlib.sha256("".join(sorted(rows.splitlines(keepends=True))).encode()).hexdigest()


def _python(program: str | Path, code: str, *arguments: str | Path, folder: Path | None = None) -> str:
    command = [program, "-c", code, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=True, cwd=folder)
    return done.stdout


def measure(sides: Sequence[Side], models: Path, rows: Sequence[str], rounds: int, options: Sequence[str]) -> bool:
    """Measure the rows in turns; return whether all sides have stored the same."""
    same = True
    for number in range(rounds):
        for kind, of_kind in (("large", ("base", "tuned")), ("small", ("small",))):
            chosen = [row for row in of_kind if row in rows]
            if not chosen:
                continue
            digests = set()
            for side in sides if number % 2 else reversed(sides):
                shutil.rmtree(side.store, ignore_errors=True)
                _python(sys.executable, READ_ALL, models / kind)
                for row in of_kind[: of_kind.index(chosen[-1]) + 1]:
                    print(f"bench: round {number + 1}, {row}, {side.name}", file=sys.stderr)
                    turn = side.ingest(models / kind / row if kind == "large" else models / row, options)
                    if row in chosen:
                        side.turns.setdefault(row, []).append(turn)
                if len(sides) > 1:
                    digests.add(side.stored_digest())
            if len(digests) > 1:
                print(f"bench: {kind} tensors are stored differently", file=sys.stderr)
                same = False
    return same


def print_figures(console: Console, sides: Sequence[Side], rows: Sequence[str]) -> None:
    table = Table("what", "checkout", title="zipfs ingest")
    for heading in ("GB", "GB a CPU s", "goal", "GB/s", "cores", "user s", "system s", "MiB", "page faults"):
        table.add_column(heading, justify="right")
    for row in rows:
        for side in sides:
            turns = side.turns[row]

            table.add_row(
                row,
                side.name,
                f"{turns[0].nbytes / 1e9:.2f}",
                f"{_median(turn.nbytes / turn.cpu_s / 1e9 for turn in turns):.3f}",
                f"{GOALS[row]:.2f}",
                f"{_median(turn.nbytes / turn.wall_s / 1e9 for turn in turns):.3f}",
                f"{_median(turn.cpu_s / turn.wall_s for turn in turns):.2f}",
                f"{_median(turn.user_s for turn in turns):.2f}",
                f"{_median(turn.system_s for turn in turns):.2f}",
                f"{_median(turn.resident_mib for turn in turns):.0f}",
                f"{_median(turn.faults for turn in turns):.0f}",
            )
        table.add_section()
    console.print(table)
    if len(sides) > 1:
        print_ratios(console, sides, rows)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def print_ratios(console: Console, sides: Sequence[Side], rows: Sequence[str]) -> None:
    one, other = sides
    table = Table("what", title=f"{other.name} over {one.name}")
    table.add_column("CPU seconds", justify="right")
    table.add_column("seconds", justify="right")
    for row in rows:
        pairs = list(zip(one.turns[row], other.turns[row], strict=True))
        cpu = _median(after.cpu_s / before.cpu_s for before, after in pairs)
        wall = _median(after.wall_s / before.wall_s for before, after in pairs)
        table.add_row(row, f"{cpu:.3f}", f"{wall:.3f}")
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench ingest", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--mbytes", type=int, default=1610, help="size of the base and of its fine-tune")
    parser.add_argument("--models", type=int, default=600, help="models of small tensors, 4.7 MB each")
    parser.add_argument("--quick", action="store_true", help="100 MB, 40 small models, one round")
    parser.add_argument("--only", choices=list(GOALS), action="append", help="only this; may be given again")
    parser.add_argument("--other", type=Path, metavar="DIR", help="a checkout to compare with, set up by tools/setup")
    parser.add_argument("--options", default="", help="options for zipfs ingest, as one word")
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep the models there, and use those that are there")
    parser.add_argument("--dir", type=Path, help="work in this directory (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every turn as JSON")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.mbytes, arguments.models, arguments.rounds = 100, 40, 1
    if arguments.other is not None and not (arguments.other / ".venv/bin/zipfs").exists():
        parser.error(f"tools/setup has not run in {arguments.other}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    rows = arguments.only or list(GOALS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zipfs-ingest-", dir=arguments.dir)))
        models = arguments.data or folder / "models"
        if {"base", "tuned"} & set(rows) and not (models / "large").exists():
            make_large(models / "large", arguments.mbytes * 1_000_000)
        if "small" in rows and not (models / "small").exists():
            make_small(models / "small", arguments.models)
        sides = [Side("this one", HERE, folder / "after")]
        if arguments.other is not None:
            sides.insert(0, Side("the other", arguments.other.resolve(), folder / "before"))
        for side in sides:
            side.folder.mkdir()
        same = measure(sides, models, rows, max(arguments.rounds, 1), arguments.options.split())
        print_figures(Console(width=None if sys.stdout.isatty() else 130), sides, rows)
        if arguments.json:
            told = {side.name: {row: [asdict(turn) for turn in side.turns[row]] for row in rows} for side in sides}
            arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(not same)


if __name__ == "__main__":
    main()
