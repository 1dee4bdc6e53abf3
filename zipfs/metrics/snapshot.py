"""What a mount has counted up to one moment, as values: quantiles, differences, JSON. Pure; any thread may call.

Durations are kept as counts per bucket. Each power of two of a second is cut into `BUCKETS_PER_DOUBLING` equal parts,
the way of HdrHistogram (http://hdrhistogram.org): a quantile is off by at most `QUANTILE_ERROR` of itself between
`SHORTEST_S` and `LONGEST_S`. Bucket `i` holds durations in (`bucket_end_s(i - 1)`, `bucket_end_s(i)`].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

BUCKETS_PER_DOUBLING: Final = 8
QUANTILE_ERROR: Final = 1 / (2 * BUCKETS_PER_DOUBLING)
_LOWEST_EXPONENT: Final = -30
_HIGHEST_EXPONENT: Final = 13
SHORTEST_S: Final = 2.0**_LOWEST_EXPONENT
LONGEST_S: Final = 2.0**_HIGHEST_EXPONENT
BUCKETS: Final = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) * BUCKETS_PER_DOUBLING
FORMAT: Final = 1
STAGES: Final = ("fetch", "decode")
TALLIES: Final = (
    "hits",
    "misses",
    "waits",
    "base_hits",
    "base_misses",
    "prefetched",
    "prefetch_used",
    "prefetch_wasted",
)


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration; what is out of range, or no number, goes to the nearest end."""
    if SHORTEST_S < seconds <= LONGEST_S:
        fraction, exponent = math.frexp(seconds)  # fraction in [1/2, 1)
        # 2n - floor(2n - 2n·fraction) rounds up: an end belongs to the bucket below it, as in Prometheus's `le`.
        part = 2 * BUCKETS_PER_DOUBLING - int(2 * BUCKETS_PER_DOUBLING * (1.0 - fraction))
        return BUCKETS_PER_DOUBLING * (exponent - _LOWEST_EXPONENT - 2) + part - 1
    return BUCKETS - 1 if seconds > LONGEST_S else 0


def bucket_end_s(index: int) -> float:
    """Return the longest duration in bucket `index`; `bucket_end_s(-1)` is where the first one starts."""
    doubling, part = divmod(index + 1, BUCKETS_PER_DOUBLING)
    return math.ldexp(1.0 + part / BUCKETS_PER_DOUBLING, doubling + _LOWEST_EXPONENT)


@dataclass(frozen=True, slots=True)
class Timed:
    """Things that took time. `failures`, by reason, are among `count`; `buckets` are (index, count), never empty."""

    count: int
    nbytes: int
    seconds: float
    failures: Mapping[str, int]
    buckets: tuple[tuple[int, int], ...]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def quantile_s(self, q: float) -> float | None:
        """Return the shortest duration that a part `q` (0 < q <= 1) of all did not exceed; None without any."""
        counted = sum(count for _, count in self.buckets)
        left = max(1, math.ceil(q * counted))
        for index, count in self.buckets:
            left -= count
            if left <= 0:
                return (bucket_end_s(index - 1) + bucket_end_s(index)) / 2
        return None

    def since(self, earlier: Timed) -> Timed:
        before = dict(earlier.buckets)
        buckets = ((index, count - before.get(index, 0)) for index, count in self.buckets)
        return Timed(
            self.count - earlier.count,
            self.nbytes - earlier.nbytes,
            self.seconds - earlier.seconds,
            {why: more for why, n in self.failures.items() if (more := n - earlier.failures.get(why, 0)) > 0},
            tuple((index, count) for index, count in buckets if count > 0),
        )


@dataclass(frozen=True, slots=True)
class Tallied:
    """Things that happened, and the bytes that they were about."""

    count: int
    nbytes: int

    def since(self, earlier: Tallied) -> Tallied:
        return Tallied(self.count - earlier.count, self.nbytes - earlier.nbytes)


NOTHING_TIMED: Final = Timed(0, 0, 0.0, {}, ())
NOTHING_TALLIED: Final = Tallied(0, 0)


@dataclass(frozen=True, slots=True)
class Process:
    """What the process that counts takes: CPU seconds in user and system, bytes resident now and at most."""

    pid: int
    cpu_s: float
    resident_nbytes: int
    peak_resident_nbytes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`started_at` and `taken_at` in seconds since 1970, `elapsed_s` on a clock that nobody sets.

    `operations` are by the names of their handlers; `stages` are fetch and decode. `gauges` that count bytes have
    names that end in `_bytes`.
    """

    started_at: float
    taken_at: float
    elapsed_s: float
    operations: Mapping[str, Timed]
    stages: Mapping[str, Timed]
    tallies: Mapping[str, Tallied]
    gauges: Mapping[str, float]
    process: Process

    def since(self, earlier: Snapshot) -> Snapshot:
        """Return what happened between two snapshots of the same counters, with gauges and memory of the later one."""
        process = self.process
        return Snapshot(
            earlier.taken_at,
            self.taken_at,
            self.elapsed_s - earlier.elapsed_s,
            {name: item.since(earlier.operations.get(name, NOTHING_TIMED)) for name, item in self.operations.items()},
            {name: item.since(earlier.stages.get(name, NOTHING_TIMED)) for name, item in self.stages.items()},
            {name: item.since(earlier.tallies.get(name, NOTHING_TALLIED)) for name, item in self.tallies.items()},
            self.gauges,
            Process(
                process.pid,
                process.cpu_s - earlier.process.cpu_s,
                process.resident_nbytes,
                process.peak_resident_nbytes,
                process.threads,
            ),
        )


def to_json(snapshot: Snapshot, *, buckets: bool = True) -> dict[str, Any]:
    """Return a document for `json.dumps`. Without `buckets` it is short, but no difference can be taken from it."""

    def timed(item: Timed) -> dict[str, Any]:
        document: dict[str, Any] = {
            "count": item.count,
            "nbytes": item.nbytes,
            "seconds": round(item.seconds, 9),
            "failures": dict(item.failures),
        }
        for name, q in (("p50_s", 0.5), ("p90_s", 0.9), ("p99_s", 0.99)):
            found = item.quantile_s(q)
            document[name] = None if found is None else float(f"{found:.4g}")
        if buckets:
            document["buckets"] = [list(bucket) for bucket in item.buckets]
        return document

    process = snapshot.process
    return {
        "format": FORMAT,
        "started_at": snapshot.started_at,
        "taken_at": snapshot.taken_at,
        "elapsed_s": round(snapshot.elapsed_s, 6),
        "operations": {name: timed(item) for name, item in sorted(snapshot.operations.items())},
        "stages": {name: timed(item) for name, item in snapshot.stages.items()},
        "tallies": {name: {"count": item.count, "nbytes": item.nbytes} for name, item in snapshot.tallies.items()},
        "gauges": dict(snapshot.gauges),
        "process": {
            "pid": process.pid,
            "cpu_s": round(process.cpu_s, 6),
            "resident_nbytes": process.resident_nbytes,
            "peak_resident_nbytes": process.peak_resident_nbytes,
            "threads": process.threads,
        },
    }


def from_json(document: Any) -> Snapshot:
    """Return the snapshot of a document that `to_json` made with `buckets`.

    Raises ValueError, KeyError, TypeError for anything else.
    """
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}")

    def timed(item: Any) -> Timed:
        buckets = tuple((int(index), int(count)) for index, count in item["buckets"])
        if any(not 0 <= index < BUCKETS for index, _ in buckets):
            raise ValueError("bucket out of range")
        failures = {str(why): int(count) for why, count in item["failures"].items()}
        return Timed(int(item["count"]), int(item["nbytes"]), float(item["seconds"]), failures, buckets)

    tallies = {name: document["tallies"][name] for name in TALLIES}
    process = document["process"]
    return Snapshot(
        float(document["started_at"]),
        float(document["taken_at"]),
        float(document["elapsed_s"]),
        {str(name): timed(item) for name, item in document["operations"].items()},
        {name: timed(document["stages"][name]) for name in STAGES},
        {name: Tallied(int(item["count"]), int(item["nbytes"])) for name, item in tallies.items()},
        {str(name): float(value) for name, value in document["gauges"].items()},
        Process(
            int(process["pid"]),
            float(process["cpu_s"]),
            int(process["resident_nbytes"]),
            int(process["peak_resident_nbytes"]),
            int(process["threads"]),
        ),
    )
