"""Compares this checkout with another one: stored bytes, ingest, reading, names and attributes, commands.

Both have a `.venv` (tools/setup). They take turns within each round, in the other order each time, so that whatever
else the machine does meets both; a figure is the median of the rounds, a ratio the median of those of the rounds.
Before a cold turn the kernel forgets everything that it keeps (as root); "packs cached" forgets the pages of the mount
alone. Processor time comes in hundredths of a second, of which one is added before dividing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from safetensors import TensorSpec, serialize_file

from tools.benchmarks.metadata.sides import daemon_of, processor_s

HERE: Final = Path(__file__).resolve().parents[3]
PATIENCE_S: Final = 600.0
_TICK_S: Final = 0.01
TENSOR_ITEMS: Final = 4 << 20
NOISE: Final = 0.003
SMALL_FILES_OF_A_MODEL: Final = 10

READ_ALL: Final = """
import os, sys
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDONLY)
    buffer = bytearray(1 << 20)
    while os.readv(fd, [buffer]): pass
    os.close(fd)
"""
READ_SMALL: Final = """
import os, sys
for model in sorted(os.listdir(sys.argv[1]))[:50]:
    for name in os.listdir(os.path.join(sys.argv[1], model)):
        with open(os.path.join(sys.argv[1], model, name), "rb") as file: file.read()
"""
READ_RANDOM: Final = """
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
pages = os.fstat(fd).st_size // 4096
for at in random.Random(int(sys.argv[2])).sample(range(pages), min(pages, 400)):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(fd, 4096, at * 4096)
"""
FORGET: Final = """
import os, sys
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
"""
STAT_ALL: Final = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names: os.stat(os.path.join(folder, name))
"""


@dataclass(slots=True)
class Side:
    """A checkout, and what it works on. `daemon` is the process that holds its store mounted, if one does."""

    name: str
    program: Path
    folder: Path
    daemon: int = 0

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mnt"

    def zipfs(self, *arguments: str | Path) -> str:
        return run(self.program, *arguments)


Timings = dict[tuple[str, str], list[float]]
"""(what, side) -> one value of each round."""


def run(*command: str | Path) -> str:
    """Run a program that has to succeed; what it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace", timeout=PATIENCE_S, check=True)
    return done.stdout


def python(code: str, *arguments: str | Path) -> None:
    run(sys.executable, "-c", code, *arguments)


def children_s() -> float:
    """Seconds of processor time of all processes that this one has run and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def forget_everything() -> None:
    run("sync")
    if os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("3")


def write_model(path: Path, tensors: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint16]]]) -> None:
    """Write bit patterns of BF16 as a safetensors file."""
    path.parent.mkdir(parents=True)
    specs = {
        f"model.layers.{at}.weight": TensorSpec(
            dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes
        )
        for at, bits in enumerate(tensors)
    }
    serialize_file(specs, path, {"format": "pt"})


def make_models(folder: Path, nbytes: int, small_models: int) -> None:
    """A base and a fine-tune of `nbytes` each, and models of a few small files; seeded."""
    random = np.random.default_rng(1)
    base, tuned = [], []
    for _ in range(max(1, nbytes // (2 * TENSOR_ITEMS))):
        values = random.standard_normal(TENSOR_ITEMS, np.float32) * np.float32(0.02)
        moved = values + random.standard_normal(TENSOR_ITEMS, np.float32) * np.float32(0.02 * NOISE)
        base.append((values.view(np.uint32) >> 16).astype(np.uint16).reshape(-1, 2048))
        tuned.append((moved.view(np.uint32) >> 16).astype(np.uint16).reshape(-1, 2048))
    write_model(folder / "large" / "base" / "model.safetensors", base)
    write_model(folder / "large" / "tuned" / "model.safetensors", tuned)
    for model in range(small_models):
        place = folder / "small" / f"model-{model:04}"
        place.mkdir(parents=True)
        for number in range(SMALL_FILES_OF_A_MODEL):
            (place / f"file-{number}.json").write_bytes(random.bytes(200 + 40 * number))


@contextmanager
def mounted(side: Side, *options: str) -> Iterator[None]:
    side.mountpoint.mkdir(exist_ok=True)
    side.zipfs("mount", "--no-optimize", *options, side.store, side.mountpoint)
    side.daemon = daemon_of(side.store)
    try:
        yield
    finally:
        side.daemon = 0
        subprocess.run([side.program, "umount", side.mountpoint], timeout=PATIENCE_S, check=False)
        subprocess.run(["fusermount3", "-u", "-z", "-q", side.mountpoint], timeout=PATIENCE_S, check=False)


class Rounds:
    """Turns of both sides, and what they took."""

    def __init__(self, sides: Sequence[Side], rounds: int, only: str) -> None:
        self.sides = sides
        self.rounds = rounds
        self.only = re.compile(only)
        self.timings: Timings = defaultdict(list)

    def measure(self, what: str, call: Callable[[Side], object], prepare: Callable[[Side], object] = id) -> None:
        """Time a call of each side in turns, and the processor time of its mount; of the command without one."""
        if not self.only.search(what):
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(what, total=self.rounds * len(self.sides))
            for number in range(self.rounds):
                for side in self.sides if number % 2 else reversed(self.sides):
                    prepare(side)
                    used_s = partial(processor_s, side.daemon) if side.daemon else children_s
                    before_s, began_s = used_s(), time.perf_counter()
                    call(side)
                    self.timings[f"{what}, s", side.name].append(time.perf_counter() - began_s)
                    self.timings[f"{what}, processor s", side.name].append(used_s() - before_s)
                    progress.update(task, advance=1)


def measure_ingest(rounds: Rounds, models: Path) -> None:
    def empty(side: Side) -> None:
        shutil.rmtree(side.store, ignore_errors=True)
        forget_everything()
        python(READ_ALL, *(models / "large" / name / "model.safetensors" for name in ("base", "tuned")))

    rounds.measure(
        "ingest a base, warm", lambda side: side.zipfs("ingest", side.store, models / "large" / "base"), empty
    )

    def only_base(side: Side) -> None:
        empty(side)
        side.zipfs("ingest", side.store, models / "large" / "base")

    rounds.measure(
        "ingest its fine-tune, warm",
        lambda side: side.zipfs("ingest", side.store, models / "large" / "tuned"),
        only_base,
    )
    for side in rounds.sides:
        empty(side)
        for name in ("large/base", "large/tuned", "small"):
            side.zipfs("ingest", side.store, models / name)


def model_path(name: str, side: Side) -> Path:
    return side.mountpoint / name / "model.safetensors"


def read_model(name: str, side: Side) -> None:
    python(READ_ALL, model_path(name, side))


def forget_model(name: str, side: Side) -> None:
    python(FORGET, model_path(name, side))


def measure_reading(rounds: Rounds) -> None:
    for name in ("base", "tuned"):
        read, forget = partial(read_model, name), partial(forget_model, name)
        rounds.measure(f"read {name}, all cold", read, lambda _: forget_everything())
        rounds.measure(f"read {name}, packs cached", read, forget)
    rounds.measure("read tuned, cached", partial(read_model, "tuned"))
    rounds.measure(
        "400 random pages of tuned, all cold",
        lambda side: python(READ_RANDOM, model_path("tuned", side), "7"),
        lambda _: forget_everything(),
    )
    rounds.measure(
        "read 500 small files, all cold",
        lambda side: python(READ_SMALL, side.mountpoint / "small"),
        lambda _: forget_everything(),
    )


def measure_metadata(rounds: Rounds) -> None:
    def walk(command: Sequence[str], side: Side) -> None:
        run(*command, side.mountpoint / "small")

    for command in (["ls", "-lR"], ["find"], ["du", "-s"]):
        rounds.measure(" ".join(command), partial(walk, command), lambda _: forget_everything())
    rounds.measure(
        "stat of each file", lambda side: python(STAT_ALL, side.mountpoint / "small"), lambda _: forget_everything()
    )


def measure_writing(rounds: Rounds, models: Path) -> None:
    count = iter(range(1_000_000))

    def copy(side: Side) -> None:
        run("cp", "-r", models / "large" / "base", side.mountpoint / "ingest" / f"copy-{next(count)}")

    def copy_small(side: Side) -> None:
        run("cp", "-r", models / "small", side.mountpoint / "ingest" / f"small-{next(count)}")

    rounds.measure("cp of a base into ingest/", copy, lambda side: side.zipfs("wait", side.mountpoint))
    rounds.measure("cp of small files into ingest/", copy_small, lambda side: side.zipfs("wait", side.mountpoint))


def measure_commands(rounds: Rounds) -> None:
    rounds.measure("zipfs --help", lambda side: side.zipfs("--help"))
    rounds.measure("zipfs ls", lambda side: side.zipfs("ls", side.store, "small"))
    rounds.measure("zipfs cat", lambda side: side.zipfs("cat", side.store, "small/model-0001/file-1.json"))
    rounds.measure("zipfs explain", lambda side: side.zipfs("explain", side.store, "tuned"))

    def mount_and_unmount(side: Side) -> None:
        side.mountpoint.mkdir(exist_ok=True)
        side.zipfs("mount", "--no-optimize", side.store, side.mountpoint)
        side.zipfs("umount", side.mountpoint)

    rounds.measure("mount and unmount", mount_and_unmount)


def stored_sizes(side: Side) -> dict[str, int]:
    """Path -> what storing each file added, in bytes."""
    rows = json.loads(side.zipfs("ls", "--json", "-r", side.store))
    return {row["path"]: row["stored_nbytes"] for row in rows if row["type"] == "file"}


def compare_sizes(sides: Sequence[Side]) -> bool:
    """Whether both store each file in as many bytes; prints those that differ."""
    one, other = map(stored_sizes, sides)
    differing = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    for path in differing:
        print(f"stored differently: {path}: {one.get(path)} and {other.get(path)} bytes")
    print(f"{len(one)} files, {sum(one.values())} bytes stored; {len(differing)} are stored in another size")
    return not differing


def print_timings(rounds: Rounds) -> None:
    one, other = rounds.sides
    table = Table("median of the rounds", one.name, other.name, f"{other.name} / {one.name}")
    for what in dict.fromkeys(what for what, _ in rounds.timings):
        before, after = rounds.timings[what, one.name], rounds.timings[what, other.name]
        ratio = statistics.median((b + _TICK_S) / (a + _TICK_S) for a, b in zip(before, after, strict=True))
        table.add_row(what, f"{statistics.median(before):.4f}", f"{statistics.median(after):.4f}", f"{ratio:.3f}")
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/bench revisions", description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="a checkout of the revision to compare with, set up by tools/setup")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbytes", type=int, default=400, help="size of the base and of its fine-tune")
    parser.add_argument("--models", type=int, default=300, help="small models, of ten files each")
    parser.add_argument("--only", default="", metavar="REGEX", help="measure only what it finds in the name of a row")
    parser.add_argument("--dir", type=Path, help="work in this directory (default: temporary)")
    arguments = parser.parse_args()
    program = arguments.other.resolve() / ".venv/bin/zipfs"
    if not program.exists():
        parser.error(f"there is no {program}; name a checkout in which tools/setup has run")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zipfs-revisions-", dir=arguments.dir)))
        sides = [
            Side("before", program, folder / "before"),
            Side("after", HERE / ".venv/bin/zipfs", folder / "after"),
        ]
        for side in sides:
            side.folder.mkdir()
        make_models(folder / "models", arguments.mbytes * 1_000_000, arguments.models)
        rounds = Rounds(sides, arguments.rounds, arguments.only)
        measure_ingest(rounds, folder / "models")
        same = compare_sizes(sides)
        measure_commands(rounds)
        with ExitStack() as mounts:
            for side in sides:
                mounts.enter_context(mounted(side))
            measure_metadata(rounds)
            measure_reading(rounds)
            measure_writing(rounds, folder / "models")
        print_timings(rounds)
    sys.exit(not same)


if __name__ == "__main__":
    main()
