"""What a mount counts: nothing is lost between threads, and quantiles are as exact as they say."""

from __future__ import annotations

import gc
import json
import math
import mmap
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import prometheus
from zipfs.metrics.counters import Counters, Tally, Timer
from zipfs.metrics.prometheus import render_prometheus
from zipfs.metrics.snapshot import (
    BUCKETS,
    LONGEST_S,
    QUANTILE_ERROR,
    SHORTEST_S,
    STAGES,
    TALLIES,
    bucket_end_s,
    bucket_of,
    from_json,
    to_json,
)

QUANTILES = (0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)


def timer_of(durations: Any) -> Timer:
    timer = Timer()
    for seconds in durations:
        timer.add(float(seconds))
    return timer


def assert_quantiles(durations: Any) -> None:
    found = timer_of(durations).read()
    for q in QUANTILES:
        exact = float(np.quantile(durations, q, method="inverted_cdf"))
        assert found.quantile_s(q) == pytest.approx(exact, rel=QUANTILE_ERROR), q


@pytest.mark.parametrize(
    "durations",
    [
        pytest.param(np.random.default_rng(1).lognormal(-9, 3, 50_000), id="lognormal"),
        pytest.param(np.random.default_rng(2).exponential(2e-4, 50_000), id="exponential"),
        pytest.param(np.random.default_rng(3).uniform(0.9e-3, 1.1e-3, 50_000), id="narrow"),
        pytest.param(np.random.default_rng(4).choice([3e-6, 0.5], 50_000, p=[0.95, 0.05]), id="two-peaks"),
        pytest.param(np.full(1000, 0.25), id="constant"),
        pytest.param(np.array([1e-3]), id="one"),
    ],
)
def test_quantiles_are_those_of_numpy_within_the_stated_error(durations: Any) -> None:
    assert QUANTILE_ERROR <= 0.1
    assert_quantiles(durations)


@given(st.lists(st.floats(SHORTEST_S, LONGEST_S, exclude_min=True), min_size=1, max_size=200))
def test_quantiles_of_anything_in_range(durations: list[float]) -> None:
    assert_quantiles(durations)


@given(st.floats(SHORTEST_S, LONGEST_S, exclude_min=True))
def test_a_duration_is_in_the_bucket_that_ends_with_it_or_above(seconds: float) -> None:
    index = bucket_of(seconds)
    assert bucket_end_s(index - 1) < seconds <= bucket_end_s(index)


def test_ends_of_buckets() -> None:
    assert bucket_end_s(-1) == SHORTEST_S
    assert bucket_end_s(BUCKETS - 1) == LONGEST_S
    for index in range(1, BUCKETS):
        end = bucket_end_s(index - 1)
        assert bucket_of(end) == index - 1
        assert bucket_of(math.nextafter(end, math.inf)) == index


def test_odd_durations_are_counted_at_the_ends() -> None:
    found = timer_of([0.0, -1.0, 1e-300, math.nan, LONGEST_S * 2, math.inf]).read()
    assert found.count == 6
    assert found.buckets == ((0, 4), (BUCKETS - 1, 2))


def test_nothing_timed_has_no_quantile() -> None:
    assert Timer().read().quantile_s(0.5) is None


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_switches")
def test_threads_that_add_at_once_lose_nothing() -> None:
    threads, rounds = 8, 4000
    counters = Counters()
    counts: list[int] = []
    together = threading.Barrier(threads + 1)
    done = threading.Event()

    def add(thread: int) -> None:
        together.wait()
        for at in range(rounds):
            counters.fetch.add(2.0**-10, 3)
            counters.hits.add(5)
            counters.operation(f"operation {at % 7}").add(2.0**-8, thread)
            if at % 10 == 0:
                counters.fetch.fail(2.0**-12, "torn" if at % 20 else "late")

    def observe() -> None:
        together.wait()
        while not done.is_set():
            found = counters.snapshot()
            assert found.stages["fetch"].failed <= found.stages["fetch"].count
            counts.append(found.stages["fetch"].count)

    with ThreadPoolExecutor(threads + 1) as pool:
        looking = pool.submit(observe)
        for adding in [pool.submit(add, thread) for thread in range(threads)]:
            adding.result()
        done.set()
        looking.result()
    found = counters.snapshot()
    total, failed = threads * rounds, threads * rounds // 10
    fetch = found.stages["fetch"]
    assert (fetch.count, fetch.nbytes) == (total + failed, 3 * total)
    assert fetch.seconds == total * 2.0**-10 + failed * 2.0**-12
    assert fetch.failures == {"torn": failed // 2, "late": failed // 2}
    assert dict(fetch.buckets) == {bucket_of(2.0**-10): total, bucket_of(2.0**-12): failed}
    assert (found.tallies["hits"].count, found.tallies["hits"].nbytes) == (total, 5 * total)
    assert sum(item.count for item in found.operations.values()) == total
    assert sum(item.nbytes for item in found.operations.values()) == rounds * sum(range(threads))
    assert counts == sorted(counts)
    assert counts[-1] <= fetch.count


@pytest.mark.parametrize("counter", [Timer(), Tally()])
def test_adding_waits_for_nobody(counter: Timer | Tally) -> None:
    with counter._lock:  # held by a thread that was stopped while it folds, or by this very one
        for _ in range(1000):
            counter.add(1)
        assert counter._lock.locked()
    assert counter.read().count == 1000


def test_a_difference_is_what_happened_in_between() -> None:
    counters = Counters()
    counters.gauge("cache_bytes", lambda: 7)
    counters.operation("read").add(1.0, 10)
    counters.decode.fail(1.0, "damaged")
    counters.misses.add(10)
    before = counters.snapshot()
    for _ in range(3):
        counters.operation("read").add(1e-3, 20)
    counters.operation("open").fail(1e-4, "ENOENT")
    counters.decode.add(2e-3, 30)
    counters.misses.add(40)
    found = from_json(json.loads(json.dumps(to_json(counters.snapshot())))).since(from_json(to_json(before)))
    read = found.operations["read"]
    assert (read.count, read.nbytes, read.failed) == (3, 60, 0)
    assert read.seconds == pytest.approx(3e-3)
    assert read.quantile_s(1.0) == pytest.approx(1e-3, rel=QUANTILE_ERROR)
    assert found.operations["open"].failures == {"ENOENT": 1}
    assert (found.stages["decode"].count, found.stages["decode"].failures) == (1, {})
    assert (found.tallies["misses"].count, found.tallies["misses"].nbytes) == (1, 40)
    assert found.tallies["hits"].count == 0
    assert found.gauges == {"cache_bytes": 7.0}
    assert 0 <= found.elapsed_s <= counters.snapshot().elapsed_s


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(JSON, st.lists(st.integers(0, 20), max_size=6))
def test_documents_of_others_are_refused(junk: Any, path: list[int]) -> None:
    """Junk somewhere in a document that is right otherwise."""
    counters = Counters()
    counters.operation("read").fail(1.0, "EIO")
    document: Any = to_json(counters.snapshot())
    at: Any = {"top": document}
    holder: Any = at
    key: Any = "top"
    for step in path:
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        holder, key = inner, (list(inner) if isinstance(inner, dict) else list(range(len(inner))))[step % len(inner)]
    holder[key] = junk
    try:
        found = from_json(at["top"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return
    assert all(0 <= index < BUCKETS for item in found.operations.values() for index, _ in item.buckets)


def test_prometheus_text_says_what_was_counted() -> None:
    counters = Counters()
    durations = np.random.default_rng(5).lognormal(-8, 2, 5000)
    for seconds in durations:
        counters.operation("read").add(float(seconds), 100)
    counters.operation('odd "name"\\\n').fail(1e9, 'a "b"')
    counters.fetch.add(2.0**-20, 10)
    counters.prefetch_wasted.add(1000)
    counters.gauge("cache_bytes", lambda: 12345)
    counters.gauge("streams", lambda: 0.5)
    text = render_prometheus(counters.snapshot())
    families = prometheus.parse(text)
    times = families["zipfs_operation_duration_seconds"]
    assert times.value("_count", operation="read") == 5000
    assert times.value("_sum", operation="read") == pytest.approx(durations.sum())
    read = prometheus.buckets(times, operation="read")
    assert len(read) > 20
    for end, count in read:
        assert count == (durations <= end).sum()
    assert prometheus.buckets(times, operation='odd "name"\\\n')[-2:] == [(64.0, 0), (math.inf, 1)]
    assert families["zipfs_operation_bytes_total"].value(operation="read") == 500_000
    assert families["zipfs_operation_failures_total"].value(operation='odd "name"\\\n', error='a "b"') == 1
    stages = families["zipfs_stage_duration_seconds"]
    assert prometheus.buckets(stages, stage="fetch")[0] == (2.0**-20, 1)
    assert {dict(labels)["stage"] for suffix, labels in stages.samples if suffix == "_sum"} == set(STAGES)
    assert families["zipfs_prefetch_wasted_total"].value() == 1
    assert families["zipfs_prefetch_wasted_bytes_total"].value() == 1000
    assert families["zipfs_cache_bytes"].value() == 12345
    assert families["zipfs_streams"].value() == 0.5
    assert families["process_start_time_seconds"].value() == counters.snapshot().started_at
    assert sum(name.endswith("_bytes_total") for name in families) == 2 + len(TALLIES)


def test_names_of_gauges() -> None:
    counters = Counters()
    counters.gauge("streams", lambda: 1)
    for name in ("streams", "", "Streams", "two words", "1st", "a\n"):
        with pytest.raises(ValueError, match="gauge"):
            counters.gauge(name, lambda: 2)
    assert counters.snapshot().gauges == {"streams": 1.0}


def test_the_process_itself_is_measured() -> None:
    counters = Counters()
    gc.collect()  # what earlier tests have left goes now and not while we look
    before = counters.snapshot().process
    nbytes = 96 << 20
    with mmap.mmap(-1, nbytes) as held:  # from malloc it could be memory that is resident already
        held[:] = b"1" * nbytes
        after = counters.snapshot().process
    assert after.resident_nbytes - before.resident_nbytes > nbytes // 2
    assert after.peak_resident_nbytes >= after.resident_nbytes
    assert after.cpu_s > before.cpu_s > 0
    assert after.threads >= threading.active_count()


def test_a_gauge_that_was_removed_is_read_no_more_and_its_name_is_free() -> None:
    counters = Counters()
    counters.gauge("cache_bytes", lambda: 7)
    counters.remove_gauge("cache_bytes")
    assert counters.snapshot().gauges == {}
    counters.gauge("cache_bytes", lambda: 8)
    assert counters.snapshot().gauges == {"cache_bytes": 8}
