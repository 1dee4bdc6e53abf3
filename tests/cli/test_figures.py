"""Figures of a mount as a person sees them, from documents as a mount gives them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zipfs.cli import mount_state
from zipfs.cli.commands import top
from zipfs.cli.render.counters import counters_text
from zipfs.errors import PathError
from zipfs.metrics.counters import Counters
from zipfs.metrics.snapshot import STAGES, TALLIES, Process, Snapshot, Tallied, Timed, bucket_of, to_json

MUCH = Timed(9_876_543_210, 900 << 40, 1e9, {"EIO": 98_765_432}, ((bucket_of(999.0), 9),))


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    (tmp_path / ".zipfs").mkdir()
    return tmp_path


def answer(mount: Path, document: object) -> None:
    (mount / ".zipfs" / "perf.json").write_text(json.dumps(document))


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


def test_a_mount_that_does_not_answer_is_not_waited_for_for_ever(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = mount / ".zipfs" / "perf.json"
    os.mkfifo(pipe)
    monkeypatch.setattr(mount_state, "_ANSWER_S", 0.05)
    with pytest.raises(PathError, match="has not answered"):
        mount_state.counters_of(mount)
    with pytest.raises(OSError) as caught:
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    assert caught.value.errno == errno.ENXIO  # nobody is left who waits


@pytest.mark.parametrize("document", [None, [], {}, "x", {"format": 2}, {"format": 1}, {"format": 1, "operations": 1}])
def test_answers_of_another_version_are_refused(mount: Path, document: object) -> None:
    answer(mount, document)
    with pytest.raises(PathError, match="another version"):
        mount_state.counters_of(mount)


def test_an_answer_without_end_is_cut_off(mount: Path) -> None:
    with open(mount / ".zipfs" / "perf.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PathError, match="cannot be read"):
        mount_state.counters_of(mount)


def test_pictures_are_of_one_life_of_a_mount_each(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that is made anew starts from nothing: what came before is not subtracted from it."""
    first, second = Counters(), Counters()
    steps: list[Callable[[], Counters]] = []

    def step(counters: Counters, reads: int) -> None:
        def count() -> Counters:
            for _ in range(reads):
                counters.operation("read").add(1e-3)
            return counters

        steps.append(count)

    for counters, reads in ((first, 90), (first, 5), (second, 3), (second, 7)):
        step(counters, reads)

    def sleep(_: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        answer(mount, to_json(steps.pop(0)().snapshot()))

    sleep(0.0)
    monkeypatch.setattr(top, "sleep", sleep)
    real_since, found = Snapshot.since, []

    def since(now: Snapshot, before: Snapshot) -> Snapshot:
        difference = real_since(now, before)
        found.append(difference.operations["read"].count)
        return difference

    monkeypatch.setattr(Snapshot, "since", since)
    shown: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        top._watch(mount, 1.0, False, shown.append)
    assert found == [5, 7]
    assert len(shown) == 3
