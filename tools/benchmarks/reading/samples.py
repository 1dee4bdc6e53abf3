"""Owns what is measured, which figures are to be reached, and what comes of a list of samples.  Runs nothing.

A ratio is the median, over the rounds, of the quotient of two samples of the same round, so that whatever else the
machine did in it meets both sides.  GB are 10^9 bytes of content.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final, NamedTuple

from tools.benchmarks.reading.contenders import BTRFS, LMZ, NOTHING, ORDINARY, PLAIN, SQUASHFS, ZIPFS

COLD: Final = "all cold"
BASE_CACHED: Final = "base's pack cached"
CACHED: Final = "cached"

LARGE: Final = ("tuned",)
ALONE: Final = ("base",)
SIBLINGS: Final = ("siblings",)
"""Stands for all fine-tunes of one base."""

OTHERS: Final = (LMZ, SQUASHFS, BTRFS)
ALL: Final = ((PLAIN, COLD), (ZIPFS, BASE_CACHED), (ZIPFS, COLD), (NOTHING, COLD), *((name, COLD) for name in OTHERS))
IN_KERNEL: Final = ((PLAIN, COLD), (ZIPFS, COLD), (SQUASHFS, COLD), (BTRFS, COLD))
LATENCY: Final = ((PLAIN, COLD), (ZIPFS, COLD), *((name, COLD) for name in OTHERS))
OURS: Final = ((PLAIN, COLD), (ZIPFS, BASE_CACHED))


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to do, in a `mode` of the reader, through each of `entries`: a contender and what is cached of it.

    With `again`, what was done all cold is done a second time at once, and counts as a case of that name.
    """

    row: str
    name: str
    mode: str
    models: tuple[str, ...]
    entries: tuple[tuple[str, str], ...]
    again: str | None = None


READ, AGAIN, READ_BASE = "read() of a fine-tune", "read() again", "read() of a base"
LOAD, PRETRAINED = "safetensors load_file", "transformers from_pretrained"
ONE, PARTS, SAME = "one reader", "8 readers, one descriptor, a part each", "8 readers, one descriptor, same bytes"
IN_TURN, AT_ONCE = "all fine-tunes of a base, in turn", "all fine-tunes of a base, at once"
RANDOM, FIRST, AS_USER = "random 4 KiB", "open and first byte", "read() as an ordinary user"
MEMORY: Final = "one daemon through everything"

CASES: Final = (
    Case("sequential", READ, "sequential", LARGE, ALL, again=AGAIN),
    Case("base", READ_BASE, "sequential", ALONE, IN_KERNEL),
    Case("load_file", LOAD, "load_file", LARGE, ALL),
    Case("from_pretrained", PRETRAINED, "from_pretrained", LARGE, ALL),
    Case("readers", ONE, "sequential", LARGE, OURS),
    Case("readers", PARTS, "parts", LARGE, OURS),
    Case("readers", SAME, "same", LARGE, OURS),
    Case("siblings", IN_TURN, "sequential", SIBLINGS, OURS),
    Case("siblings", AT_ONCE, "files", SIBLINGS, OURS),
    Case("random", RANDOM, "random", LARGE, LATENCY),
    Case("first", FIRST, "first", LARGE, LATENCY),
    Case("ordinary", AS_USER, "sequential", LARGE, ((PLAIN, COLD), (ORDINARY, BASE_CACHED), (ORDINARY, COLD))),
)

ROWS: Final = (*dict.fromkeys(case.row for case in CASES), "memory")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Seconds; latencies of single reads in milliseconds; the most memory its daemon had in MiB."""

    round: int
    case: str
    contender: str
    state: str
    nbytes: int = 0
    seconds: float = 0.0
    reader_cpu_s: float = 0.0
    daemon_cpu_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    peak_mib: float | None = None
    load: float = 0.0
    failure: str = ""

    @property
    def gb_s(self) -> float | None:
        return self.nbytes / self.seconds / 1e9 if self.seconds else None


class Key(NamedTuple):
    case: str
    contender: str
    state: str


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of samples to reach: `at_least` or at most `value`; with `against`, divided by that of those samples."""

    what: str
    at_least: bool
    value: float
    unit: str
    figure: str
    ours: Key
    against: Key | None = None
    beside: Key | None = None
    """Shown with it, for comparison."""


def _reading(what: str, value: float, ours: Key, against: Key, beside: Key | None = None) -> Goal:
    return Goal(what, True, value, "x", "gb_s", ours, against, beside)


GOALS: Final = (
    _reading("cold read(), base's pack cached, against the plain file", 1.0,
             Key(READ, ZIPFS, BASE_CACHED), Key(READ, PLAIN, COLD)),
    _reading("the same, all cold", 0.6, Key(READ, ZIPFS, COLD), Key(READ, PLAIN, COLD)),
    _reading("cold read() of a base, against the plain file", 1.0,
             Key(READ_BASE, ZIPFS, COLD), Key(READ_BASE, PLAIN, COLD)),
    _reading("cached again, against a do-nothing mount", 0.95,
             Key(AGAIN, ZIPFS, CACHED), Key(AGAIN, NOTHING, CACHED), Key(AGAIN, PLAIN, CACHED)),
    *(
        Goal(f"{name}, {text}, time against the plain file", False, 1.2, "x", "seconds",
             Key(name, ZIPFS, state), Key(name, PLAIN, COLD))
        for name in (LOAD, PRETRAINED)
        for state, text in ((BASE_CACHED, "base's pack cached"), (COLD, "all cold"))
    ),
    _reading("8 readers of one descriptor, a part each, against one reader", 1.0,
             Key(PARTS, ZIPFS, BASE_CACHED), Key(ONE, ZIPFS, BASE_CACHED)),
    _reading("8 readers of one descriptor, same bytes, against one reader", 1.0,
             Key(SAME, ZIPFS, BASE_CACHED), Key(ONE, ZIPFS, BASE_CACHED)),
    _reading("all fine-tunes of one base at once, against in turn", 1.0,
             Key(AT_ONCE, ZIPFS, BASE_CACHED), Key(IN_TURN, ZIPFS, BASE_CACHED)),
    Goal("random 4 KiB, all cold, p50", False, 1.0, "ms", "p50_ms",
         Key(RANDOM, ZIPFS, COLD), beside=Key(RANDOM, PLAIN, COLD)),
    Goal("random 4 KiB, all cold, p99", False, 4.0, "ms", "p99_ms",
         Key(RANDOM, ZIPFS, COLD), beside=Key(RANDOM, PLAIN, COLD)),
    Goal("open and first byte, all cold", False, 5.0, "ms", "p50_ms",
         Key(FIRST, ZIPFS, COLD), beside=Key(FIRST, PLAIN, COLD)),
    _reading("cold read() as an ordinary user, base's pack cached", 0.6,
             Key(AS_USER, ORDINARY, BASE_CACHED), Key(AS_USER, PLAIN, COLD)),
    _reading("the same, all cold", 0.6, Key(AS_USER, ORDINARY, COLD), Key(AS_USER, PLAIN, COLD)),
    Goal("resident memory of one daemon through everything", False, 512 + 150, "MiB", "peak_mib",
         Key(MEMORY, ZIPFS, COLD)),
    _reading("cold read(), all cold, against lmz's mount", 3.0, Key(READ, ZIPFS, COLD), Key(READ, LMZ, COLD)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a goal; figures are None where no sample has one."""

    goal: Goal
    measured: float | None
    ours: float | None
    theirs: float | None
    beside: float | None

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.goal.value if self.goal.at_least else self.measured <= self.goal.value


def percentile(values: Iterable[float], part: float) -> float | None:
    """The smallest value that at least `part` of them do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)] if ordered else None


def figures(samples: Iterable[Sample], key: Key, figure: str) -> dict[int, float]:
    """Round -> figure of the samples of a key, but for those that failed."""
    found = {}
    for sample in samples:
        if Key(sample.case, sample.contender, sample.state) == key and not sample.failure:
            value = getattr(sample, figure)
            if value is not None:
                found[sample.round] = float(value)
    return found


def median(samples: Iterable[Sample], key: Key | None, figure: str) -> float | None:
    found = {} if key is None else figures(samples, key, figure)
    return statistics.median(found.values()) if found else None


def judge(goal: Goal, samples: Sequence[Sample]) -> Outcome:
    ours = figures(samples, goal.ours, goal.figure)
    measured = statistics.median(ours.values()) if ours else None
    if goal.against is not None:
        theirs = figures(samples, goal.against, goal.figure)
        ratios = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys()]
        measured = statistics.median(ratios) if ratios else None
    return Outcome(
        goal,
        measured,
        statistics.median(ours.values()) if ours else None,
        median(samples, goal.against, goal.figure),
        median(samples, goal.beside, goal.figure),
    )


def to_csv(samples: Iterable[Sample]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [*(field.name for field in fields(Sample)), "gb_s"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(sample), "gb_s": sample.gb_s} for sample in samples)
    return out.getvalue()
