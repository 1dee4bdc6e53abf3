"""Renders counters as text for Prometheus, format 0.0.4. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from zipfs.metrics.snapshot import BUCKETS_PER_DOUBLING, Snapshot, Timed, bucket_end_s, bucket_of

_TALLIES: Final = {
    "hits": ("cache_hits", "Requests, or parts of them, answered from memory."),
    "misses": ("cache_misses", "Requests, or parts of them, that had to be fetched and decoded."),
    "waits": ("decode_waits", "Requests, or parts of them, that waited for a decoding under way."),
    "base_hits": ("base_hits", "Ranges of bases found in memory."),
    "base_misses": ("base_misses", "Ranges of bases that had to be fetched and decoded."),
    "prefetched": ("prefetched", "Decoded before anybody asked."),
    "prefetch_used": ("prefetch_used", "Decoded before anybody asked, and asked for later."),
    "prefetch_wasted": ("prefetch_wasted", "Decoded before anybody asked, and dropped without having been asked for."),
}
_SHORTEST: Final = bucket_of(2.0**-20)
_LONGEST: Final = bucket_of(2.0**6)
_ENDS: Final = range(_SHORTEST, _LONGEST + 1, BUCKETS_PER_DOUBLING)
"""Buckets whose ends are in the text: each power of two of a second from a microsecond to a minute."""


def render_prometheus(snapshot: Snapshot) -> str:
    """Return the text; durations are histograms in seconds, sizes are bytes."""
    lines: list[str] = []
    for kind, items, what in (
        ("operation", snapshot.operations, "Requests of the kernel"),
        ("stage", snapshot.stages, "Steps of serving content"),
    ):
        if items:
            lines += _timed(kind, dict(sorted(items.items())), what)
    for name, item in snapshot.tallies.items():
        metric, help_text = _TALLIES[name]
        lines += _metric(f"zipfs_{metric}_total", "counter", help_text, {"": item.count})
        lines += _metric(f"zipfs_{metric}_bytes_total", "counter", f"{help_text[:-1]}: bytes.", {"": item.nbytes})
    for name, value in sorted(snapshot.gauges.items()):
        lines += _metric(f"zipfs_{name}", "gauge", f"{name.replace('_', ' ').capitalize()} now.", {"": value})
    process = snapshot.process
    lines += _metric("process_cpu_seconds_total", "counter", "CPU time in user and system.", {"": process.cpu_s})
    lines += _metric("process_resident_memory_bytes", "gauge", "Resident memory.", {"": process.resident_nbytes})
    lines += _metric(
        "process_peak_resident_memory_bytes", "gauge", "Resident memory at most.", {"": process.peak_resident_nbytes}
    )
    lines += _metric("process_threads", "gauge", "Threads.", {"": process.threads})
    lines += _metric(
        "process_start_time_seconds", "gauge", "When counting began, since 1970.", {"": snapshot.started_at}
    )
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, help_text: str, samples: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of one family; `samples` are by their labels, braces included."""
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples.items():
        yield f"{name}{labels} {value!r}"


def _timed(kind: str, items: Mapping[str, Timed], what: str) -> Iterator[str]:
    name = f"zipfs_{kind}_duration_seconds"
    yield f"# HELP {name} {what}: how long they took."
    yield f"# TYPE {name} histogram"
    for which, item in items.items():
        label = f'{kind}="{_escaped(which)}"'
        counts = dict(item.buckets)
        total = sum(count for index, count in item.buckets if index < _SHORTEST)
        for end in _ENDS:
            total += sum(
                counts.get(index, 0) for index in range(max(_SHORTEST, end - BUCKETS_PER_DOUBLING + 1), end + 1)
            )
            yield f'{name}_bucket{{{label},le="{bucket_end_s(end)!r}"}} {total}'
        yield f'{name}_bucket{{{label},le="+Inf"}} {item.count}'
        yield f"{name}_sum{{{label}}} {item.seconds!r}"
        yield f"{name}_count{{{label}}} {item.count}"
    nbytes = {f'{{{kind}="{_escaped(label)}"}}': item.nbytes for label, item in items.items()}
    yield from _metric(f"zipfs_{kind}_bytes_total", "counter", f"{what}: bytes moved.", nbytes)
    failures = {
        f'{{{kind}="{_escaped(label)}",error="{_escaped(why)}"}}': count
        for label, item in items.items()
        for why, count in sorted(item.failures.items())
    }
    yield from _metric(f"zipfs_{kind}_failures_total", "counter", f"{what}: answered with an error.", failures)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
