"""Measures writing: a large file, small ones and small pieces, onto a disk, a mount that does nothing, and ZipFS.

All sides lie on one disk and take turns within one round, in another order each time, so that whatever else the machine
does meets all of them; a figure is the median of the rounds. The files that are copied are in memory. What was written
is removed and synced between the turns, outside of what is measured, so what the disk had to write for one side does
not slow another. Processor seconds are those of the writer and of the daemon together, and vary less.

The do-nothing mount is pyfuse3 as it comes: it writes each request to a file of the same disk. A second one drops all.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.benchmarks.reading.contenders import Trouble
from tools.benchmarks.writing.sides import DISK, NOTHING, Side, Spent, make_sides

MEMORY = Path("/", "dev", "shm")
PIECE_NBYTES = 4096
SMALL_NBYTES = 16 << 10
BIG, SMALL, PIECES = "one large file", f"files of {SMALL_NBYTES >> 10} KiB", f"pieces of {PIECE_NBYTES >> 10} KiB"

Samples = dict[tuple[str, str], list[Spent]]
"""(case, side) -> one value of each round."""
Requests = dict[tuple[str, str], dict[str, int]]
"""(case, side) -> what the kernel asked for in the last round, by kind."""


def make_source(folder: Path, nbytes: int, files: int) -> None:
    """Make what is copied: `big`, and in the directory `small` the other files."""
    block = os.urandom(1 << 20)
    with (folder / "big").open("wb") as file:
        for done in range(0, nbytes, len(block)):
            file.write(block[: nbytes - done])
    (folder / "small").mkdir()
    for number in range(files):
        (folder / "small" / f"{number}").write_bytes(block[:SMALL_NBYTES])


def write_once(case: str, side: Side, source: Path, arguments: argparse.Namespace) -> Spent:
    """Write, and remove it again. Raises Trouble."""
    try:
        if case == PIECES:
            return side.write("pieces", PIECE_NBYTES, arguments.pieces)
        if case == BIG:
            return side.copy([source / "big"], arguments.size)
        small = sorted((source / "small").iterdir())
        return side.copy(small, arguments.files * SMALL_NBYTES)
    finally:
        side.clear()
        os.sync()


def measure(console: Console, arguments: argparse.Namespace, place: Path, source: Path) -> tuple[Samples, Requests]:
    samples: defaultdict[tuple[str, str], list[Spent]] = defaultdict(list)
    requests: Requests = {}
    failed: set[tuple[str, str]] = set()
    with ExitStack() as stack:
        sides = [
            side for side in make_sides(place, writeback=arguments.writeback) if side.name not in arguments.without
        ]
        for side in sides:
            stack.callback(side.owner.stop, for_good=True)
            side.owner.start()
        for number in range(arguments.rounds):
            for case in (BIG, SMALL, PIECES):
                turn = number % len(sides)
                for side in [*sides[turn:], *sides[:turn]]:
                    if (case, side.name) in failed:
                        continue
                    side.requests()
                    try:
                        samples[case, side.name].append(write_once(case, side, source, arguments))
                        requests[case, side.name] = side.requests()
                    except Trouble as error:
                        failed.add((case, side.name))
                        console.print(f"left out: {case}: {error}", markup=False, soft_wrap=True)
    return {key: spent for key, spent in samples.items() if spent}, requests


def speed(case: str, arguments: argparse.Namespace, seconds: float) -> float:
    """GB/s, files a second, or pieces a millisecond: more is better."""
    if case == BIG:
        return float(arguments.size) / seconds / 1e9
    return float(arguments.files) / seconds if case == SMALL else float(arguments.pieces) / seconds / 1e3


def print_speeds(console: Console, arguments: argparse.Namespace, samples: Samples) -> None:
    table = Table("median of the rounds", title="Writing")
    for column in ("on the clock", f"over {DISK}", f"over {NOTHING}", "processor", f"over {NOTHING}"):
        table.add_column(column, justify="right")
    units = {BIG: "{:.2f} GB/s", SMALL: "{:,.0f} files/s", PIECES: "{:.3f} ms each"}
    for (case, side), spent in samples.items():
        clock = speed(case, arguments, statistics.median(one.seconds for one in spent))
        work = speed(case, arguments, statistics.median(one.processor_s for one in spent))
        ratios = [
            _ratio(clock, case, DISK, samples, arguments, "seconds"),
            _ratio(clock, case, NOTHING, samples, arguments, "seconds"),
            _ratio(work, case, NOTHING, samples, arguments, "processor_s"),
        ]
        shown = [units[case].format(1 / value if case == PIECES else value) for value in (clock, work)]
        table.add_row(f"{case}: {side}", shown[0], *ratios[:2], shown[1], ratios[2])
    console.print(table)


def _ratio(value: float, case: str, other: str, samples: Samples, arguments: argparse.Namespace, what: str) -> str:
    """How many times as fast as another side."""
    beside = [getattr(one, what) for one in samples.get((case, other), [])]
    return f"{value / speed(case, arguments, statistics.median(beside)):.2f}" if beside else ""


def print_requests(console: Console, requests: Requests) -> None:
    """What the kernel asked for in one turn, and how large its writes were."""
    table = Table("requests", "", title="What the kernel asked for in the last round")
    for (case, side), counts in requests.items():
        writes, nbytes = counts.get("write", 0), counts.get("write bytes", 0)
        told = [f"{kind} {count:,}" for kind, count in sorted(counts.items()) if count and kind != "write bytes"]
        size = f"; {nbytes / writes / 1024:,.0f} KiB a write" if writes else ""
        if told:
            table.add_row(f"{case}: {side}", ", ".join(told) + size)
    console.print(table)


def write_csv(path: Path, samples: Samples) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "side", "seconds", "writer processor s", "daemon processor s"])
        for (case, side), spent in samples.items():
            writer.writerows([case, side, one.seconds, one.writer_s, one.daemon_s] for one in spent)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench writing", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("--size", type=int, default=1_600_000_000, metavar="BYTES", help="the large file [1600000000]")
    parser.add_argument("--files", type=int, default=1000, metavar="N", help="small files [1000]")
    parser.add_argument("--pieces", type=int, default=5000, metavar="N", help="small pieces of one file [5000]")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of which the median is taken [5]")
    parser.add_argument("--writeback", action="store_true", help="also measure a mount with --writeback-cache")
    parser.add_argument("--without", action="append", default=[], metavar="SIDE", help="leave a side out, by its name")
    parser.add_argument("--place", type=Path, metavar="DIR", help="the disk to write to [a temporary directory]")
    parser.add_argument(
        "--source", type=Path, default=MEMORY, metavar="DIR", help="where the files to be copied are put"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the samples as CSV")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if min(arguments.files, arguments.rounds, arguments.pieces, arguments.size) < 1:
        sys.exit("bench: sizes and counts are positive")
    console = Console(width=None if sys.stdout.isatty() else 160)
    with ExitStack() as stack:
        place, source = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zipfs-writing-", dir=parent)))
            for parent in (arguments.place, arguments.source)
        )
        if shutil.disk_usage(place).free < 3 * arguments.size:
            sys.exit(f"bench: {place} needs {3 * arguments.size / 1e9:.0f} GB of free space; name another by --place")
        make_source(source, arguments.size, arguments.files)
        try:
            samples, requests = measure(console, arguments, place, source)
        except (Trouble, OSError) as error:
            sys.exit(f"bench: {error}")
    print_speeds(console, arguments, samples)
    print_requests(console, requests)
    if arguments.csv is not None:
        write_csv(arguments.csv, samples)


if __name__ == "__main__":
    main()
