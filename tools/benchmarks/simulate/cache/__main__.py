"""Compares policies for the frames of bases by replaying traces.

A trace says which frames of bases are asked for, in order; a policy says which of them stay in memory. The hit rate is
that of bytes; what a hit saves is the decoding of a frame of a base, at the speed of one thread of this machine. Larger
caches are simulated with larger frames, and a history shorter by as much, so that more can be read in the same time.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tools.benchmarks.simulate.cache.history import TEXTBOOK, Belady
from tools.benchmarks.simulate.cache.policies import Policy
from tools.benchmarks.simulate.cache.traces import (
    TRACES,
    Family,
    Trace,
    families_of,
    make_trace,
    nbytes_of,
    plausible_hub,
)
from zipfs.codec import FRAME_NBYTES, FrameJob, decode_frames, encode_frame
from zipfs.errors import ZipfsError
from zipfs.store.frames.policy import HISTORY_FRAMES, RECENT_NBYTES, FramePolicy, Key

MIB = 1 << 20
CACHES_MIB = (64, 512, 4096, 32768)
OURS = "ZipFS"
OPTIMUM = "optimum"


@dataclass(frozen=True, slots=True)
class Figure:
    """One policy on one trace: bytes of the frames asked for and of those found, and the CPU time of a call."""

    cache_mib: int
    policy: str
    trace: str
    seed: int
    asked_nbytes: int
    hit_nbytes: int
    call_us: float


@dataclass(frozen=True, slots=True)
class Case:
    """A trace to be replayed by some policies."""

    cache_mib: int
    trace: str
    seed: int
    accesses: int
    policies: tuple[str, ...]

    @property
    def frame_nbytes(self) -> int:
        """A power of two: at most a 64th of the cache, as the least share of recent frames is to hold some."""
        return FRAME_NBYTES * (1 if self.cache_mib < 512 else 2 if self.cache_mib < 4096 else 8)


def policies_of(case: Case, trace: Trace, recent_mib: Iterable[int]) -> dict[str, Callable[[int], Policy]]:
    """All that there are, by name."""
    history_frames = HISTORY_FRAMES * FRAME_NBYTES // case.frame_nbytes

    def ours(recent_nbytes: int) -> Callable[[int], Policy]:
        return lambda budget_nbytes: FramePolicy(budget_nbytes, recent_nbytes, history_frames)

    found: dict[str, Callable[[int], Policy]] = {**TEXTBOOK, OURS: ours(RECENT_NBYTES)}
    found |= {name_with(mib): ours(mib * MIB) for mib in recent_mib}
    found[OPTIMUM] = lambda budget_nbytes: Belady(budget_nbytes, trace.accesses)
    return found


def name_with(recent_mib: int) -> str:
    return f"{OURS}, {recent_mib} MiB"


def replay(policy: Policy, trace: Trace) -> tuple[int, int, float]:
    """Bytes asked for, bytes found, CPU time in seconds."""
    resident: set[Key] = set()
    sizes = trace.nbytes
    asked = hit = 0
    begin = time.process_time()
    for key in trace.accesses:
        nbytes = sizes[key]
        asked += nbytes
        if key in resident:
            hit += nbytes
            policy.used(key)
        else:
            resident.add(key)
            resident.difference_update(policy.admit(key, nbytes))
    return asked, hit, time.process_time() - begin


def run(case: Case, families: Sequence[Family], recent_mib: Sequence[int]) -> list[Figure]:
    trace = make_trace(case.trace, families, case.frame_nbytes, case.accesses, case.seed)
    policies = policies_of(case, trace, recent_mib)
    figures = []
    for name in case.policies:
        asked, hit, seconds = replay(policies[name](case.cache_mib * MIB), trace)
        call_us = 1e6 * seconds / len(trace.accesses)
        figures.append(Figure(case.cache_mib, name, case.trace, case.seed, asked, hit, call_us))
    return figures


def decoding_gb_s() -> float:
    """How fast one thread decodes BF16 weights that are coded standalone, into 64 MiB that are used again and again."""
    values = np.random.default_rng(0).normal(0, 0.02, FRAME_NBYTES // 2).astype(np.float32)
    frame = encode_frame((values.view("<u4") >> 16).astype("<u2").data, "BF16", None, 0)
    targets = np.zeros((64, FRAME_NBYTES), np.uint8)
    jobs = [FrameJob(bytes(bytearray(frame)), target.data, None, 0) for target in targets]
    seconds = []
    for _ in range(11):
        begin = time.process_time()
        decode_frames(jobs)
        seconds.append(time.process_time() - begin)
    return targets.nbytes / statistics.median(seconds) / 1e9


Means = Mapping[tuple[str, str], float]


def print_figures(console: Console, figures: Sequence[Figure], gb_s: float) -> None:
    for cache_mib, group in itertools.groupby(
        sorted(figures, key=lambda one: one.cache_mib), lambda one: one.cache_mib
    ):
        print_cache(console, cache_mib, list(group), gb_s)


def print_cache(console: Console, cache_mib: int, figures: Sequence[Figure], gb_s: float) -> None:
    """One table; the best of each trace is bold, the optimum apart."""
    asked, hit, call_us = _sums(figures)
    traces = list(dict.fromkeys(trace for _, trace in asked))
    policies = list(dict.fromkeys(policy for policy, _ in asked))
    all_nbytes = sum(asked[policies[0], trace] for trace in traces)
    seconds = all_nbytes / gb_s / 1e9
    console.print(
        f"\n{_size(cache_mib)}: hits in % of {all_nbytes / 1e12:.2f} TB, whose decoding takes {seconds:.0f} s"
    )
    table = Table("policy", header_style="")
    for column in (*traces, "mean", "saved, s", "µs a call"):
        table.add_column(column, justify="right")
    rates = {at: hit[at] / asked[at] for at in asked}
    real = [policy for policy in policies if policy != OPTIMUM]
    for policy in policies:
        cells = []
        for trace in traces:
            cell = f"{100 * rates[policy, trace]:.2f}"
            best = max((rates[one, trace] for one in real), default=0.0)
            cells.append(f"[bold]{cell}[/bold]" if policy in real and rates[policy, trace] == best > 0 else cell)
        mean = sum(rates[policy, trace] for trace in traces) / len(traces)
        saved = sum(hit[policy, trace] for trace in traces) / gb_s / 1e9
        call = sum(call_us[policy, trace] for trace in traces) / len(traces)
        style = "dim" if policy == OPTIMUM else None
        table.add_row(policy, *cells, f"{100 * mean:.2f}", f"{saved:.0f}", f"{call:.1f}", style=style)
    console.print(table)


def _sums(figures: Sequence[Figure]) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int], Means]:
    """By policy and trace over all seeds: bytes asked for, bytes found, and the mean time of a call in µs."""
    asked: dict[tuple[str, str], int] = {}
    hit: dict[tuple[str, str], int] = {}
    times: dict[tuple[str, str], list[float]] = {}
    for figure in figures:
        at = figure.policy, figure.trace
        asked[at] = asked.get(at, 0) + figure.asked_nbytes
        hit[at] = hit.get(at, 0) + figure.hit_nbytes
        times.setdefault(at, []).append(figure.call_us)
    return asked, hit, {at: sum(values) / len(values) for at, values in times.items()}


def _size(mib: int) -> str:
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:g} GiB"


def positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("it must be above 0")
    return number


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench simulate/cache", description=__doc__.split("\n")[0] if __doc__ else None
    )
    names = [*TEXTBOOK, OURS, OPTIMUM]
    parser.add_argument("--store", type=Path, metavar="DIR", help="take the models from this store, not from a hub")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures as CSV")
    parser.add_argument(
        "--cache", type=positive, nargs="+", default=CACHES_MIB, metavar="MIB", help="sizes of the cache"
    )
    parser.add_argument(
        "--trace", nargs="+", choices=list(TRACES), default=list(TRACES), metavar="NAME", help="of: %(choices)s"
    )
    parser.add_argument("--policy", nargs="+", choices=names, default=names, metavar="NAME", help="of: %(choices)s")
    parser.add_argument(
        "--recent",
        type=positive,
        nargs="+",
        default=[],
        metavar="MIB",
        help=f"try {OURS} with other least shares for recent frames as well; {RECENT_NBYTES // MIB} is what it has",
    )
    parser.add_argument(
        "--accesses", type=positive, default=100_000, metavar="N", help="frames asked for in a trace (%(default)s)"
    )
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="traces of each kind (%(default)s)")
    parser.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (%(default)s)"
    )
    return parser.parse_args()


def models(store: Path | None) -> list[Family]:
    if store is None:
        return plausible_hub()
    try:
        families = families_of(store)
    except ZipfsError as error:
        sys.exit(f"bench: {error}")
    if not families:
        sys.exit(f"bench: no file of {store} is coded against a base; leave --store out to simulate a hub")
    return families


def opened(path: Path) -> TextIO:
    """The file for the figures; asked for before minutes are spent on them."""
    try:
        return path.open("w", newline="")
    except OSError as error:
        sys.exit(f"bench: {path} cannot be written: {error.strerror}")


def main() -> None:
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 150)
    families = models(arguments.store)
    table = None if arguments.csv is None else opened(arguments.csv)
    gb_s = decoding_gb_s()
    sizes = sorted(nbytes_of(family) / 1e9 for family in families)
    console.print(
        f"{len(families)} families with bases of {sizes[0]:.2f} to {sizes[-1]:.2f} GB, {sum(sizes):.2f} GB in all;"
        f" one thread decodes {gb_s:.2f} GB/s"
    )
    policies = (*arguments.policy, *(name_with(mib) for mib in arguments.recent))
    cases = [
        Case(cache_mib, trace, seed, arguments.accesses, policies)
        for cache_mib in arguments.cache
        for trace in arguments.trace
        for seed in range(arguments.seeds)
    ]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        found = {pool.submit(run, case, families, arguments.recent): case for case in cases}
        progress = Console(stderr=True)
        done = track(as_completed(found), "Replaying", len(cases), console=progress, transient=True)
        results = {found[future]: future.result() for future in done}
    figures = [figure for case in cases for figure in results[case]]
    print_figures(console, figures, gb_s)
    if table is not None:
        with table:
            writer = csv.DictWriter(table, list(asdict(figures[0])))
            writer.writeheader()
            writer.writerows(asdict(figure) for figure in figures)


if __name__ == "__main__":
    main()
