"""What a mount has counted, as text in 80 columns. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from zipfs.cli.render.units import duration, number, ratio, size
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.metrics.snapshot import Snapshot, Tallied, Timed

_WIDTH: Final = 80


def counters_text(found: Snapshot, *, as_rates: bool) -> Iterator[str]:
    """Lay a snapshot out in lines. `as_rates` shows what each second of it did, instead of the sum."""
    elapsed_s = max(found.elapsed_s, 1e-9)
    per = elapsed_s if as_rates else 1.0
    count, moved, errors = ("per s", "bytes/s", "errors/s") if as_rates else ("count", "bytes", "errors")
    yield f"{'operation':<12}{count:>11}{errors:>10}{moved:>12}{'p50':>9}{'p90':>9}{'p99':>9}"
    busiest = sorted(found.operations.items(), key=lambda item: -item[1].seconds)
    yield from _timed({name: item for name, item in busiest if item.count}, per)
    yield "of these"
    yield from _timed(found.stages, per)
    yield ""
    yield from _tallies(found.tallies)
    now = ", ".join(f"{_gauge_name(name)} {_gauge(name, value)}" for name, value in sorted(found.gauges.items()))
    yield from textwrap.wrap(f"now         {now}", _WIDTH, subsequent_indent=" " * 12)
    process = found.process
    cpu = f"CPU {ratio(process.cpu_s, elapsed_s)}" if as_rates else f"CPU {process.cpu_s:.1f} s in {elapsed_s:.0f} s"
    yield f"memory      {size(process.resident_nbytes)} resident, {size(process.peak_resident_nbytes)} at most"
    yield f"process     {process.pid}: {cpu}, {process.threads} threads"


def _timed(items: Mapping[str, Timed], per: float) -> Iterator[str]:
    for name, item in items.items():
        quantiles = "".join(f"{duration(item.quantile_s(q)):>9}" for q in (0.5, 0.9, 0.99))
        nbytes = size(item.nbytes / per) if item.nbytes else "-"
        counts = f"{number(item.count / per):>11}{number(item.failed / per):>10}"
        yield f"{printable(name):<12}{counts}{nbytes:>12}{quantiles}"


def _tallies(tallies: Mapping[str, Tallied]) -> Iterator[str]:
    hits, misses, waits = (tallies[name].count for name in ("hits", "misses", "waits"))
    yield f"cache       {ratio(hits, hits + misses + waits)} hits: {hits} hit, {misses} missed, {waits} waited"
    hits, misses = tallies["base_hits"].count, tallies["base_misses"].count
    yield f"bases       {ratio(hits, hits + misses)} hits: {hits} hit, {misses} missed"
    ahead, used, wasted = (tallies[name] for name in ("prefetched", "prefetch_used", "prefetch_wasted"))
    yield (
        f"ahead       {ahead.count} decoded, {size(ahead.nbytes)}; {used.count} used;"
        f" {wasted.count} wasted, {size(wasted.nbytes)}"
    )


def _gauge_name(name: str) -> str:
    return printable(name.removesuffix("_bytes").replace("_", " "))


def _gauge(name: str, value: float) -> str:
    return size(value) if name.endswith("_bytes") else f"{value:g}"
