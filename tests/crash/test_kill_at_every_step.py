"""A process that is killed at any named step loses nothing: what was there or had been acknowledged is still there."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.scenarios import KEPT, SCENARIOS, Runs, Scenario, prepare
from tests.support.sql import sql
from tests.support.stores import (
    all_problems,
    collect_garbage,
    compress,
    contents,
    problems,
    put_file,
    remove,
    spooled,
)
from zipfs.errors import NotFound
from zipfs.ingest.optimize.run import plan_rebases
from zipfs.store.disk.faults import POINTS
from zipfs.store.publish import FAULT_POINTS, fault_points
from zipfs.store.store import Store, open_store

pytestmark = pytest.mark.crash

STEPS: list[tuple[str, str]] = [
    *[("seal", point) for point in ("seal.begin", "seal.begin:2", "seal.logged", "seal.committed")],
    *[(scenario, point) for scenario in ("compress", "import") for point in ("ingest.begin", *fault_points("ingest"))],
    ("compress", "seal.begin"),
    ("compress", "seal.logged"),
    ("compress", "seal.committed"),
    ("compress", "ingest.spool-freed"),
    ("compress", "ingest.spool-freed:3"),
    *[("optimize", point) for point in ("optimize.begin", *fault_points("optimize"))],
    *[("optimize", point) for point in ("gc.begin", *fault_points("gc"), "gc.pack-unlinked", "gc.snapshot-synced")],
    *[("merge", point) for point in (*fault_points("gc"), "gc.pack-dropped", "gc.pack-unlinked:5")],
    *[("delete", f"delete.{step}") for step in ("logged", "committed", "spool-freed")],
    *[
        ("collect", point)
        for point in (
            *("gc.begin", *fault_points("gc"), "gc.logged:2", "gc.committed:2", "gc.pack-dropped", "gc.pack-dropped:2"),
            *("gc.pack-unlinked", "gc.pack-unlinked:2"),
            *("gc.snapshot-synced", "gc.snapshot-renamed", "gc.snapshot-committed"),
        )
    ],
    *[("write", f"seal-written.{step}") for step in ("begin", "logged", "committed")],
    *[("reopen", f"reopen.{step}{nth}") for step in ("prepared", "logged", "committed") for nth in ("", ":2")],
    *[("reopen", point) for point in ("ingest.committed", "ingest.spool-freed")],
    *[("cut", f"clip.{step}") for step in ("truncated", "logged", "committed")],
    *[("repair", point) for point in fault_points("repair")],
]
"""Scenario and fault point; `:n` stands for the n-th time that the point is reached."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "store"
    prepare(path)
    return path


@pytest.fixture
def path(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "store"))


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.end()


def _indexed(store: Store) -> set[int]:
    return {row[0] for row in sql(store.catalog, "SELECT DISTINCT blob_id FROM anchors")}


def test_who_changed_places_with_its_base_before_a_kill_is_found_like_any_other(path: Path, runs: Runs) -> None:
    """The commit is redone from the log, which knows nothing of index keys; the next run sets them."""
    with open_store(path) as store:
        SCENARIOS["optimize"].before(store)
    assert runs.run("optimize", path, "optimize.logged") == -signal.SIGKILL
    with open_store(path) as store:
        plan_rebases(store, lambda what, done, total: None)
        tensors = "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= 4096 AND base_id IS"
        standalone, members = (
            {row[0] for row in sql(store.catalog, f"{tensors} {which}")} for which in ("NULL", "NOT NULL")
        )
        sampled = {row[0] for row in sql(store.catalog, "SELECT blob_id FROM landmarks")}
        assert (_indexed(store), sampled) == (standalone, members)
        assert problems(store) == []


def test_every_fault_point_is_tried() -> None:
    assert {point.partition(":")[0] for _, point in STEPS} == {*POINTS, *FAULT_POINTS}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_does_its_work_when_nothing_kills_it(name: str, path: Path, runs: Runs) -> None:
    scenario = SCENARIOS[name]
    with open_store(path) as store:
        scenario.before(store)
    assert runs.run(name, path) == 0
    assert contents(path) == scenario.after_files
    assert [problem for problem in all_problems(path) if not problem.harmless] == []


@pytest.mark.parametrize(("name", "fault"), STEPS, ids=[f"{name}-{fault}" for name, fault in STEPS])
def test_nothing_is_lost_and_work_goes_on(name: str, fault: str, path: Path, tmp_path: Path, runs: Runs) -> None:
    scenario = SCENARIOS[name]
    with open_store(path) as store:
        scenario.before(store)
    assert runs.run(name, path, fault) == -signal.SIGKILL

    _assert_old_or_new(scenario, path)  # as a reader finds it that changes nothing
    with open_store(path) as store:
        _assert_old_or_new(scenario, path)
        below_ingest = spooled(store)
        served = contents(path)
        for file, content in scenario.safe.items():
            assert content in (served.get(file), below_ingest.get(file)), file
        assert scenario.damaged or problems(store) == []

        compress(store)
        served = contents(path)
        for file, content in scenario.safe.items():
            assert served[file] == content, file

    # The next process does the same once more, to the end.
    if name == "delete":
        with open_store(path) as store, contextlib.suppress(NotFound):
            remove(store, b"old")
    else:
        assert runs.run(name, path) == 0
    with open_store(path) as store:
        compress(store)
        collect_garbage(store)
        put_file(store, tmp_path / "more", b"more/file", b"still takes files")
        assert problems(store) == []
    after = contents(path)
    assert after.pop(b"more/file") == b"still takes files"
    assert after == scenario.after_files
    assert [problem for problem in all_problems(path) if problem.part != "spool"] == []


def _assert_old_or_new(scenario: Scenario, path: Path) -> None:
    found = contents(path)
    for file in {*scenario.before_files, *scenario.after_files}:
        allowed = [files.get(file) for files in (scenario.before_files, scenario.after_files)]
        assert found.get(file) in allowed, file
    for file, content in KEPT.items():
        assert found[file] == content, file
