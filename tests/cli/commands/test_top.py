"""`zipfs top`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from zipfs.cli.commands import top
from zipfs.metrics.counters import Counters
from zipfs.metrics.snapshot import Snapshot, to_json


def test_pictures_are_of_one_life_of_a_mount_each(answering: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that is made again starts from nothing: what came before is not subtracted from it."""
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
        document = to_json(steps.pop(0)().snapshot())
        (answering / ".zipfs" / "perf.json").write_text(json.dumps(document))

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
        top._watch(answering, 1.0, False, shown.append)
    assert found == [5, 7]
    assert len(shown) == 3
