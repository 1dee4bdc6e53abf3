"""Measures the codec beside its peers and prints what a change of it is judged by.

All coders of a case take turns within one round, so that whatever else the machine does meets all of them; a figure is
the median of the rounds, in processor time of this process, one thread.  GB/s are of raw bytes.  They are decoded into
memory that is not in the caches, and compared with what was coded; and, by our own codecs, also frame after frame into
one window, as a mount does.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tools.benchmarks.codec.coders import BITX, FRAMES, Coder, Stored, coders, entropy_bound, missing_peers
from tools.benchmarks.codec.data import Bytes, Case, block_cases, family_cases, generated_cases, make_family
from zipfs.codec import FRAME_NBYTES
from zipfs.dtypes import DTYPES

ALL_NBYTES = 1 << 40
QUICK_NBYTES = 4 << 20
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: bits a weight as counted from the stored bytes; speeds in GB/s, None where none was measured."""

    case: str
    dtype: str
    coder: str
    bits: float
    encode_gb_s: float | None
    decode_gb_s: float | None
    window_gb_s: float | None


@dataclass(slots=True)
class Seconds:
    """Of each round."""

    encode: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)


def measure(case: Case, rounds: int) -> Iterator[Figure]:
    """Figures of every coder, and the bound behind them."""
    entries = coders(case)
    seconds = {coder.name: Seconds() for coder in entries}
    stored_nbytes: dict[str, int] = {}
    window = np.zeros(FRAME_NBYTES, np.uint8)
    outs = [np.zeros_like(tensor.raw) for tensor in case.tensors]
    for _ in range(rounds):
        for coder in entries:
            taken = seconds[coder.name]
            begin = time.process_time()
            stored = [coder.encode(tensor) for tensor in case.tensors]
            taken.encode.append(time.process_time() - begin)
            stored_nbytes[coder.name] = sum(len(piece) for piece in chain.from_iterable(stored))
            taken.decode.append(_decode(coder, case, stored, outs))
            if coder.fills_windows:
                begin = time.process_time()
                for pieces, tensor in zip(stored, case.tensors, strict=True):
                    coder.decode(pieces, tensor, window)
                taken.window.append(time.process_time() - begin)
    for coder in entries:
        taken = seconds[coder.name]
        yield Figure(
            case.name,
            case.dtype,
            coder.name,
            stored_nbytes[coder.name] * DTYPES[case.dtype].bits / case.nbytes,
            case.nbytes / statistics.median(taken.encode) / 1e9,
            case.nbytes / statistics.median(taken.decode) / 1e9,
            case.nbytes / statistics.median(taken.window) / 1e9 if taken.window else None,
        )
    bound = entropy_bound(case)
    if bound is not None:
        yield Figure(case.name, case.dtype, "entropy of order 0", bound, None, None, None)


def _decode(coder: Coder, case: Case, stored: list[Stored], outs: list[Bytes]) -> float:
    for out in outs:
        out.fill(0xA5)
    begin = time.process_time()
    decoded = [
        coder.decode(pieces, tensor, out) for pieces, tensor, out in zip(stored, case.tensors, outs, strict=True)
    ]
    seconds = time.process_time() - begin
    for tensor, content in zip(case.tensors, decoded, strict=True):
        if not np.array_equal(tensor.raw, content):
            sys.exit(f"{coder.name} does not give back what it was given ({case.name}, {case.dtype})")
    return seconds


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach, of a coder in a case or its ratio to another: at most `value` if it is of bits, else at least.

    A ratio of speeds compares what a coder reaches in a window with what one that has none reaches in fresh memory.
    """

    what: str
    case: str
    dtype: str
    coder: str
    figure: str
    value: float
    against: str | None = None

    def measured(self, figures: list[Figure]) -> float | None:
        ours = self._find(figures, self.coder, self.figure)
        other = self._find(figures, self.against, "bits" if self.figure == "bits" else "decode_gb_s")
        if ours is None or (self.against is not None and other is None):
            return None
        return ours / other if other is not None else ours

    def reached(self, measured: float) -> bool:
        return measured <= self.value if self.figure == "bits" else measured >= self.value

    def _find(self, figures: list[Figure], coder: str | None, name: str) -> float | None:
        for figure in figures:
            if (figure.case, figure.dtype, figure.coder) == (self.case, self.dtype, coder):
                found: float | None = getattr(figure, name)
                return found
        return None


ISA_GOALS = {"portable": (2.5, 0.5), "avx2": (4.0, 1.5), "avx512": (4.0, 3.0)}
"""Instruction set -> GB/s of decoded BF16, alone and against a base."""

BLOCK_GOALS = {"Q8_0": 0.933, "Q4_K": 0.946, "Q6_K": 0.961, "Q4_0": 0.94, "Q5_K": 0.98}
"""Type of blocks -> share of the raw bytes."""

GOALS = [
    *(
        Goal("bits", "blocks alone", dtype, FRAMES, "bits", share * DTYPES[dtype].bits)
        for dtype, share in BLOCK_GOALS.items()
    ),
    Goal("bits", "base-bf16 alone", "BF16", FRAMES, "bits", 10.68),
    Goal("bits", "base-f32 alone", "F32", FRAMES, "bits", 26.7),
    Goal("bits over BitX", "F32 fine-tune-like", "F32", FRAMES, "bits", 0.9, BITX),
    *(
        Goal("bits", case, "BF16", FRAMES, "bits", bits)
        for case, bits in (("sft-lr2e-5-step300", 1.47), ("sft-lr5e-6-step200", 0.70), ("sft-frozen-layers", 0.84))
    ),
    *(
        Goal("bits over BitX", case, "BF16", FRAMES, "bits", 0.6, BITX)
        for case in ("sft-lr2e-5-step300", "sft-lr5e-6-step200", "sft-frozen-layers")
    ),
    *(
        Goal(f"decode, {isa}", case, "BF16", f"zipfs kernel, {isa}", "window_gb_s", speeds[has_base])
        for has_base, case in enumerate(("base-bf16 alone", "sft-lr2e-5-step300"))
        for isa, speeds in ISA_GOALS.items()
    ),
    Goal("decode, avx512", "F32 fine-tune-like", "F32", "zipfs kernel, avx512", "window_gb_s", 2.5),
    Goal("encode", "base-bf16 alone", "BF16", FRAMES, "encode_gb_s", 1.2),
    Goal("encode", "sft-lr2e-5-step300", "BF16", FRAMES, "encode_gb_s", 0.7),
    *(
        Goal(f"decode{where} over {peer}", "base-bf16 alone", "BF16", FRAMES, figure, times, peer)
        for peer, times in (("ZipNN", 2.5), ("lmz", 5.0))
        for where, figure in (("", "decode_gb_s"), (" in a window", "window_gb_s"))
    ),
]


def print_figures(console: Console, figures: list[Figure]) -> None:
    table = Table("what", "dtype", "coder", title="Codecs, one thread")
    for heading in ("bits/weight", "encode GB/s", "decode GB/s", "in a window"):
        table.add_column(heading, justify="right")
    previous = None
    for figure in figures:
        if previous not in (None, (figure.case, figure.dtype)):
            table.add_section()
        previous = (figure.case, figure.dtype)
        speeds = (figure.encode_gb_s, figure.decode_gb_s, figure.window_gb_s)
        cells = ("" if speed is None else f"{speed:.2f}" for speed in speeds)
        table.add_row(figure.case, figure.dtype, figure.coder, f"{figure.bits:.3f}", *cells)
    console.print(table)


def print_goals(console: Console, figures: list[Figure]) -> None:
    table = Table("what", "of", "dtype", title="Goals")
    for heading in ("goal", "measured", "reached"):
        table.add_column(heading, justify="right")
    for goal in GOALS:
        measured = goal.measured(figures)
        if measured is not None:
            bound = f"{'<=' if goal.figure == 'bits' else '>='} {goal.value:g}"
            reached = "yes" if goal.reached(measured) else "no"
            table.add_row(goal.what, goal.case, goal.dtype, bound, f"{measured:.3f}", reached)
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench codec", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="4 MiB of each case, one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="rounds of which the median is taken")
    parser.add_argument(
        "--family", type=Path, metavar="DIR", help="a folder of models; without it one is made and removed"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures as CSV")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    for name in missing_peers():
        print(f"bench: {name} is not installed and left out", file=sys.stderr)
    limit_nbytes, rounds = (QUICK_NBYTES, 1) if arguments.quick else (ALL_NBYTES, max(arguments.rounds, 1))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        family = arguments.family or make_family(Path(scratch))
        cases = family_cases(family, limit_nbytes), block_cases(family, limit_nbytes), generated_cases(limit_nbytes)
        for case in chain.from_iterable(cases):
            if arguments.only in case.name:
                print(f"bench: {case.name}, {case.dtype}, {case.nbytes / 1e6:.1f} MB", file=sys.stderr)
                figures += measure(case, rounds)
    console = Console(width=None if sys.stdout.isatty() else 120)
    print_figures(console, figures)
    print_goals(console, figures)
    rows = [asdict(figure) for figure in figures]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.csv and rows:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
