"""Measures names and attributes in a mount of many files and prints them beside ext4's.

All sides take turns within one round, in another order each time, so that whatever else the machine does meets all of
them; a figure is the median of the rounds. Before each turn the kernel forgets the names and attributes that it keeps
(as root; else the figures are of a kernel that may remember some). Of the disk, the pages stay cached.

The mount that does nothing answers from memory what was made before: it is the least that a mount in Python takes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tools.benchmarks.metadata.sides import (
    Side,
    abort,
    forget_names,
    kill,
    mount_store,
    nothing_mounted,
    unmount,
)
from tools.benchmarks.metadata.tree import fill_disk, fill_ingest, fill_store, plan_tree
from zipfs.store.store import open_store

ROUNDS = 5
WALKS = {"ls -lR": ["ls", "-lR"], "find": ["find"], "du -s": ["du", "-s"]}

Figures = dict[tuple[str, str], list[float]]
"""(what, side) -> one value of each round."""


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, advance=done)


def make_data(place: Path, files: int, pending: int) -> None:
    """A store, the same store with files that arrive, and the same tree on the disk."""
    tree = plan_tree(files)
    with _bar("store", files) as advance, open_store(place / "store", create=True) as store:
        fill_store(store, tree, place, advance)
    shutil.copytree(place / "store", place / "busy")
    with _bar("files that arrive", pending) as advance, open_store(place / "busy") as store:
        fill_ingest(store, pending, advance)
    with _bar("disk", files) as advance:
        (place / "disk").mkdir()
        fill_disk(place / "disk", tree, advance)


def measure_mounting(place: Path, rounds: int, pending: int) -> Figures:
    """Seconds until a mount answers: when it is new, after a kill, with files that arrive."""
    figures: Figures = defaultdict(list)
    with _bar("mounting", rounds) as advance:
        for _ in range(rounds):
            side, spent_s = mount_store(place / "store", place / "mnt")
            figures["mount, s", side.name].append(spent_s)
            kill(side)
            side, spent_s = mount_store(place / "store", place / "mnt")
            figures["mount after kill -9, s", side.name].append(spent_s)
            unmount(side)
            side, spent_s = mount_store(place / "busy", place / "mnt")
            figures[f"mount with {pending} files arriving, s", side.name].append(spent_s)
            unmount(side)
            advance(1)
    return figures


def measure_walks(sides: list[Side], rounds: int, files: int, stats: int) -> Figures:
    """Entries a second of programs that walk the tree, processor time of an entry, and what stat(2) takes."""
    figures: Figures = defaultdict(list)
    entries = {side.name: len(side.run(["find", side.top, "-printf", "."])) for side in sides}
    with _bar("walking", rounds * len(sides)) as advance:
        for number in range(rounds):
            for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                for what, command in WALKS.items():
                    forget_names()
                    spent_s, processor_s = side.time([*command, side.top])
                    figures[f"{what}, entries/s", side.name].append(entries[side.name] / spent_s)
                    if side.pid:
                        figures[f"{what}, processor us/entry", side.name].append(1e6 * processor_s / entries[side.name])
                forget_names()
                asking: list[str | Path] = [sys.executable, "-m", "tools.benchmarks.metadata.stat", side.top]
                found = json.loads(side.run([*asking, *map(str, (files, stats, number))]))
                figures["stat of random paths, /s", side.name].append(found["rate"])
                figures["stat, p50 us", side.name].append(found["p50_us"])
                figures["stat, p99 us", side.name].append(found["p99_us"])
                advance(1)
    return figures


def print_figures(console: Console, figures: Figures) -> None:
    sides = list(dict.fromkeys(side for _, side in figures))
    table = Table("median of the rounds", title="Names and attributes")
    for side in sides:
        table.add_column(side, justify="right")
    for what in dict.fromkeys(what for what, _ in figures):
        values = (figures.get((what, side)) for side in sides)
        table.add_row(what, *("" if value is None else _shown(statistics.median(value)) for value in values))
    console.print(table)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write_csv(path: Path, figures: Figures) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "side", "median", "rounds"])
        for (what, side), values in figures.items():
            writer.writerow([what, side, f"{statistics.median(values):.6g}", " ".join(f"{v:.6g}" for v in values)])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench metadata", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("--files", type=int, default=100_000, metavar="N", help="files of the tree [100000]")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help="rounds of which the median is taken [5]"
    )
    parser.add_argument("--stats", type=int, default=5_000, metavar="N", help="random paths in a round [5000]")
    parser.add_argument("--pending", type=int, default=10_000, metavar="N", help="files that arrive [10000]")
    parser.add_argument("--place", type=Path, metavar="DIR", help="where to put the data [a temporary directory]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures as CSV")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if min(arguments.files, arguments.rounds, arguments.stats, arguments.pending) < 1:
        sys.exit("bench: --files, --rounds, --stats and --pending must be at least 1")
    if not os.path.exists("/dev/fuse"):
        sys.exit("bench: there is no /dev/fuse, so nothing can be mounted")
    if not forget_names():
        print("bench: only root can have the kernel forget names: some stay known to it", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="zipfs-bench-", dir=arguments.place, ignore_cleanup_errors=True) as scratch:
        place = Path(scratch).resolve()
        for name in ("mnt", "nothing"):
            (place / name).mkdir()
        try:
            figures = measure(place, arguments)
        finally:
            abort(place / "mnt")
    console = Console(width=None if sys.stdout.isatty() else 120)
    print_figures(console, figures)
    console.print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    if arguments.csv:
        write_csv(arguments.csv, figures)


def measure(place: Path, arguments: argparse.Namespace) -> Figures:
    make_data(place, arguments.files, arguments.pending)
    figures = measure_mounting(place, arguments.rounds, arguments.pending)
    with nothing_mounted(arguments.files, place / "nothing") as nothing:
        ours, _ = mount_store(place / "store", place / "mnt")
        sides = [ours, nothing, Side("disk", place / "disk")]
        figures.update(measure_walks(sides, arguments.rounds, arguments.files, arguments.stats))
        unmount(ours)
    return figures


if __name__ == "__main__":
    main()
