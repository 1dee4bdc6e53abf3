"""What a mount has counted, as a person sees it."""

from __future__ import annotations

import pytest

from zipfs.cli.render.counters import counters_text
from zipfs.metrics.counters import Counters
from zipfs.metrics.snapshot import STAGES, TALLIES, Process, Snapshot, Tallied, Timed, bucket_of

MUCH = Timed(9_876_543_210, 900 << 40, 1e9, {"EIO": 98_765_432}, ((bucket_of(999.0), 9),))


def test_what_a_mount_answers_is_shown() -> None:
    counters = Counters()
    for _ in range(8):
        counters.operation("read").add(1e-3, 1 << 20)
    counters.operation("open").fail(30e-6, "ENOENT")
    counters.decode.add(1.5, 4 << 20)
    for _ in range(3):
        counters.hits.add(1)
    counters.misses.add(1)
    counters.prefetched.add(4 << 20)
    counters.prefetch_used.add(4 << 20)
    counters.gauge("cache_bytes", lambda: 1 << 20)
    counters.gauge("open_files", lambda: 2)
    lines = list(counters_text(counters.snapshot(), as_rates=False))
    rows = [line.split() for line in lines]
    assert ["read", "8", "0", "8.0", "MiB", "1.04", "ms", "1.04", "ms", "1.04", "ms"] in rows
    assert ["open", "1", "1", "-", "29.6", "us", "29.6", "us", "29.6", "us"] in rows
    assert ["decode", "1", "0", "4.0", "MiB", "1.44", "s", "1.44", "s", "1.44", "s"] in rows
    assert "cache       75.0% hits: 3 hit, 1 missed, 0 waited" in lines
    assert "ahead       1 decoded, 4.0 MiB; 1 used; 0 wasted, 0 B" in lines
    assert "now         cache 1.0 MiB, open files 2" in lines


def test_rates_are_of_the_time_that_is_covered() -> None:
    found = Snapshot(
        0.0, 4.0, 4.0, {"read": Timed(400, 8 << 20, 1.0, {"EIO": 1}, ((bucket_of(1e-3), 400),))},
        dict.fromkeys(STAGES, Timed(0, 0, 0.0, {}, ())), dict.fromkeys(TALLIES, Tallied(0, 0)), {},
        Process(1, 1.0, 0, 0, 1),
    )  # fmt: skip
    rows = [line.split() for line in counters_text(found, as_rates=True)]
    assert ["read", "100", "0.2", "2.0", "MiB", "1.04", "ms", "1.04", "ms", "1.04", "ms"] in rows
    assert ["process", "1:", "CPU", "25.0%,", "1", "threads"] in rows


@pytest.mark.parametrize("as_rates", [False, True])
def test_large_figures_fit_a_terminal(as_rates: bool) -> None:
    gauges = {f"gauge_{number}_bytes": 1.5e12 for number in range(9)}
    process = Process(4_194_304, 1e7, 900 << 30, 900 << 30, 999)
    found = Snapshot(
        0.0, 1e8, 1.0, dict.fromkeys(("getxattr", "listxattr"), MUCH), dict.fromkeys(STAGES, MUCH),
        dict.fromkeys(TALLIES, Tallied(9_999_999, 900 << 40)), gauges, process,
    )  # fmt: skip
    assert max(map(len, counters_text(found, as_rates=as_rates))) <= 80
