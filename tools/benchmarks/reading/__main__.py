"""Measures reading through a mount, beside the plain file and what else saves space.

In a round every case goes through all contenders one after the other, so that whatever else the machine does meets all
of them.  Before each measurement the daemons of ZipFS and lmz are started anew and the page cache is dropped; "base's
pack cached" means that the packs of the base, and nothing else, were then read into the page cache.  A process of its
own does the reading.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from tools.benchmarks.reading.contenders import (
    BTRFS,
    EXTRA_BIN,
    HERE,
    LMZ,
    NOTHING,
    ORDINARY,
    PLAIN,
    SQUASHFS,
    ZIPFS,
    Trouble,
    contenders,
    open_device_to_everyone,
)  # fmt: skip
from tools.benchmarks.reading.data import Model, make, models, size_of
from tools.benchmarks.reading.run import Bench, served_models
from tools.benchmarks.reading.samples import ROWS, Sample, to_csv
from tools.benchmarks.reading.stores import fill_btrfs, fill_lmz, fill_squashfs, fill_store, machine, stored_nbytes
from tools.benchmarks.reading.table import goals_markdown, print_all

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
IN_IMAGES = ("base", "tuned")


def nbytes_of(text: str) -> int:
    """Bytes that `1.6G` or `500M` says."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no size; write 1.6G or 500M")
    return int(float(match[1]) * UNITS[match[2]])


def rows_of(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: no such row; there are {', '.join(ROWS)}")
    return names


OTHERS = {
    "nothing": NOTHING, "ordinary": ORDINARY, "lmz": LMZ, "squashfs": SQUASHFS, "btrfs": BTRFS,
}  # fmt: skip


def others_of(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in OTHERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; there are {', '.join(OTHERS)}")
    return [OTHERS[name] for name in names]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(prog="tools/bench reading", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="small models, one round: whether everything works")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of which the median is taken (5)")
    parser.add_argument("--rows", type=rows_of, default=list(ROWS), metavar="A,B", help=f"of {', '.join(ROWS)} (all)")
    parser.add_argument(
        "--beside", type=others_of, default=list(OTHERS.values()), metavar="A,B",
        help=f"what to measure beside ZipFS and the plain file: of {', '.join(OTHERS)} (all); '' for nothing",
    )  # fmt: skip
    parser.add_argument("--size", type=nbytes_of, metavar="SIZE", help="of the base and its fine-tune (1.6G)")
    parser.add_argument("--fine-tunes", type=int, metavar="N", help="of the smaller base (8)")
    parser.add_argument("--fine-tune-size", type=nbytes_of, metavar="SIZE", help="of each of them (500M)")
    parser.add_argument(
        "--data", type=Path, default=cache / "zipfs-bench-mount", metavar="DIR",
        help="where models and stores are made and kept for the next run (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--fresh-store", action="store_true", help="ingest the models anew")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for samples.csv, table.md and plot.png")
    found = parser.parse_args(arguments)
    for name, usual, quick in (
        ("rounds", 5, 1),
        ("size", 1_600_000_000, 96_000_000),
        ("fine_tunes", 8, 3),
        ("fine_tune_size", 500_000_000, 24_000_000),
    ):
        if getattr(found, name) is None:
            setattr(found, name, quick if found.quick else usual)
    if min(found.rounds, found.fine_tunes) < 1:
        parser.error("there is nothing to measure")
    return found


def note(console: Console, text: str) -> None:
    """A line where no bar can be drawn."""
    if not console.is_terminal:
        print(f"bench: {text}", file=sys.stderr, flush=True)


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[shown]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        yield progress


def make_models(console: Console, wanted: Sequence[Model], folder: Path) -> None:
    columns = (TextColumn("making {task.fields[shown]}"), BarColumn(30), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(size_of(model) for model in wanted), shown="")
        for model in wanted:
            progress.update(task, shown=model.name)
            make(model, folder, lambda nbytes: progress.advance(task, nbytes))


def fill_all(console: Console, folder: Path, wanted: Sequence[Model], beside: list[str]) -> None:
    """Stores and images; what is not to be had is taken out of `beside`."""
    names = [model.name for model in wanted if model.name != "tiny"]
    bases = [model.name for model in wanted if model.change is None and model.name in names]
    names.sort(key=lambda name: name not in bases)
    with console.status("") as status, tempfile.TemporaryDirectory() as scratch:

        def say(text: str) -> None:
            status.update(text)
            note(console, text)

        fill_store(folder, names, bases, say)
        fills: dict[str, Callable[[], None]] = {
            LMZ: lambda: fill_lmz(folder, ("tuned",), say),
            SQUASHFS: lambda: fill_squashfs(folder, IN_IMAGES, say),
            BTRFS: lambda: fill_btrfs(folder, IN_IMAGES, say, Path(scratch)),
        }
        for name, fill in fills.items():
            if name in beside:
                try:
                    fill()
                except Trouble as error:
                    beside.remove(name)
                    console.print(f"bench: {name} is left out: {error}", markup=False)
    raw = sum(stored_nbytes(folder / "models" / name) for name in names)
    stored = stored_nbytes(folder / "store")
    console.print(f"The store holds {raw / 1e9:.2f} GB of models in {stored / 1e9:.2f} GB.")


def take_samples(console: Console, bench: Bench, arguments: argparse.Namespace) -> list[Sample]:
    samples: list[Sample] = []
    with progress_bar(console) as progress:
        task = progress.add_task("comparing", total=arguments.rounds, shown="")

        def say(text: str) -> None:
            progress.update(task, shown=text)
            note(console, text)

        bench.say = say
        bench.start_readers(arguments.rows)
        for name in [name for name in bench.contenders if name != PLAIN]:
            try:
                bench.compare(name, served_models(name, arguments.rows, bench.siblings))
            except Trouble as error:
                if name == ZIPFS:
                    raise
                bench.contenders.pop(name).abort()
                console.print(f"bench: {name} is left out: {error}", markup=False)
        bench.wait_for_readers()
        try:
            for number in range(arguments.rounds):
                progress.update(task, description=f"round {number + 1} of {arguments.rounds}", completed=number)
                for sample in bench.round(number, arguments.rows):
                    samples.append(sample)  # noqa: PERF402  # what an interrupted round has measured counts
            if "memory" in arguments.rows:
                samples.append(bench.memory(arguments.rows))
        except KeyboardInterrupt:
            console.print("bench: interrupted; this is what was measured until then")
    return samples


def report(console: Console, samples: Sequence[Sample], about: dict[str, str], out: Path) -> None:
    print_all(console, samples, about)
    out.mkdir(parents=True, exist_ok=True)
    (out / "samples.csv").write_text(to_csv(samples))
    (out / "table.md").write_text(goals_markdown(samples, about))
    plot = subprocess.run(
        [EXTRA_BIN / "python", "-P", HERE / "plot.py", out / "samples.csv", out / "plot.png", about["measured"]],
        check=False,
    )
    made = ("samples.csv", "table.md", *(["plot.png"] if plot.returncode == 0 else []))
    console.print(f"Written: {', '.join(str(out / name) for name in made)}", soft_wrap=True)


def stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    arguments = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    console = Console(width=None if sys.stdout.isatty() else 160)
    now = dt.datetime.now(dt.UTC)
    wanted = models(arguments.size, arguments.fine_tune_size, arguments.fine_tunes)
    folder = arguments.data / f"{arguments.size}-{arguments.fine_tunes}x{arguments.fine_tune_size}"
    about = {"measured": f"{now:%Y-%m-%d %H:%M} UTC", **machine(arguments.data.parent), "rounds": str(arguments.rounds)}
    console.print(", ".join(f"{name} {value}" for name, value in about.items()), markup=False)
    try:
        prepare_and_measure(console, arguments, wanted, folder, about)
    except (Trouble, OSError) as error:
        sys.exit(f"bench: {error}")


def prepare_and_measure(
    console: Console, arguments: argparse.Namespace, wanted: Sequence[Model], folder: Path, about: dict[str, str]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = 3 * sum(size_of(model) for model in wanted)
    if not (folder / "store").exists() and shutil.disk_usage(folder).free < needed:
        sys.exit(f"bench: {folder} needs {needed / 1e9:.0f} GB of free space; name another place by --data")
    make_models(console, wanted, folder / "models")
    if arguments.fresh_store:
        shutil.rmtree(folder / "store", ignore_errors=True)
    beside: list[str] = list(arguments.beside)
    fill_all(console, folder, wanted, beside)
    siblings = [model.name for model in wanted if model.name.startswith("sibling") and model.change is not None]
    with ExitStack() as stack:
        mounts = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="zipfs-bench-", ignore_cleanup_errors=True))
        )
        mounts.chmod(0o755)
        everyone = contenders(folder, mounts)
        chosen = {name: found for name, found in everyone.items() if name in (PLAIN, ZIPFS, *beside)}
        if ORDINARY in chosen:
            stack.callback(open_device_to_everyone())
        bench = Bench(folder, chosen, siblings, print)
        stack.callback(bench.close)
        samples = take_samples(console, bench, arguments)
    out = arguments.out or arguments.data / "results" / about["measured"].replace(" ", "T").replace("TUTC", "")
    report(console, samples, about, out)


if __name__ == "__main__":
    main()
