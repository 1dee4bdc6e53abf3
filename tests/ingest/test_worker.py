"""The worker of a mount goes on whatever happens in a round, ends when it is told to, and leaves a store in order."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import badly_based_family, base_of, contents, copy_in, noise, problems, remove
from zipfs.errors import CatalogDamaged, NoSpace, Stopped, StoreBusy
from zipfs.ingest import worker
from zipfs.ingest.optimize import after_ingest
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import drain, seal_everything
from zipfs.ingest.worker import Reporter, _Rounds
from zipfs.store.disk.stopping import Stop
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


class Told(Reporter):
    """A reporter that keeps what it is told in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[dict[str, object]] = []

    def _tell(self, *, now: bool = False, **changes: object) -> None:
        self._state.update(changes)
        self.states.append(dict(self._state))


def rounds(store: Store, reporter: Reporter, wake: Stop) -> tuple[_Rounds, Pipeline]:
    pipeline = Pipeline(store, reporter)
    return _Rounds(store, pipeline, reporter, wake, None), pipeline


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), OSError(5, "Input/output error"), CatalogDamaged("a row"), NoSpace("store", "full")],
    ids=lambda error: type(error).__name__,
)
def test_a_round_that_fails_is_told_and_the_next_one_compresses(
    error: Exception, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy_in(store, b"a", b"content")
    seal_everything(store)
    tried = 0

    def draining(store: Store, pipeline: Pipeline) -> int:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise error
        try:
            return drain(store, pipeline)
        finally:
            store.stop.set()
            wake.set()

    monkeypatch.setattr(worker, "drain", draining)
    monkeypatch.setattr(worker, "_RETRY_S", 0.01)
    wake, reporter = Stop(), Told()
    running, pipeline = rounds(store, reporter, wake)
    with caplog.at_level(logging.ERROR), pytest.raises(Stopped):
        running.run()
    pipeline.close()
    assert tried == 2
    assert contents(store.path) == {b"a": b"content"}
    assert "compressing pauses" in caplog.text
    assert ("bug in ZipFS" in caplog.text) == isinstance(error, ValueError)
    assert any(str(error) in str(state.get("waiting")) for state in reporter.states)
    assert reporter.states[-1].get("waiting") is None


def test_copying_in_through_a_mount_ends_with_better_bases_as_an_ingest_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(after_ingest, "_LEAST_NBYTES", 0)
    family = badly_based_family(60_000)
    running, pipeline = rounds(store, Told(), Stop())
    for name, content in family.items():
        copy_in(store, name, content)
        seal_everything(store)
        running._round()
    pipeline.close()
    assert base_of(store, b"run/0")[-1] is not None  # the outlier, which came first, is no base any more
    assert problems(store) == []
    assert contents(store.path) == family


def test_small_packs_are_merged_in_passing(store: Store) -> None:
    running, pipeline = rounds(store, Told(), Stop())
    files = {f"log/{number}".encode(): noise(250, number) for number in range(20)}
    for name, content in files.items():
        copy_in(store, name, content)
        seal_everything(store)
        running._round()
    pipeline.close()
    assert len(store.catalog.packs()) < 9
    assert problems(store) == []
    assert contents(store.path) == files


def test_whoever_writes_packs_now_is_not_waited_for_to_merge_them(store: Store) -> None:
    running, pipeline = rounds(store, Told(), Stop())
    with store.lock("pack").held("", waiting=None):
        running._idler.tidy()
        with pytest.raises(StoreBusy), store.lock("pack").held("", waiting=None):
            pass
    pipeline.close()


def test_a_file_that_is_removed_while_it_is_compressed_is_no_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipfs.ingest.source._ASK_EVERY_S", 0.0)
    files = {b"a": noise(3 << 20, 1), b"b": noise(3 << 20, 2), b"c": noise(100, 3)}
    for name, content in files.items():
        copy_in(store, name, content)
    seal_everything(store)
    reporter = Told()
    running, pipeline = rounds(store, reporter, Stop())
    removed = False

    def advanced(nbytes: int) -> None:
        nonlocal removed
        if not removed and reporter._state["file"] == os.fsdecode(b"b"):
            removed = True
            with open_store(store.path) as other:
                with other.transaction() as txn:
                    for entry in sql(txn.catalog, "SELECT parent_id, name FROM entries WHERE area <> 0"):
                        txn.drop_entry(*entry)
                remove(other, b"b")

    monkeypatch.setattr(reporter, "advanced", advanced)
    running._round()
    pipeline.close()
    assert removed
    assert store.catalog.failures() == {}
    assert contents(store.path) == {b"a": files[b"a"], b"c": files[b"c"]}
    assert sql(store.catalog, "SELECT count(*) FROM blobs") == [(2,)]
    assert problems(store) == []
