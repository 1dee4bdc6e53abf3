"""What an ingest tells whoever watches it, and what every watcher must bear: add one that joins to `WATCHERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from rich.progress import Progress as Bar

from tests.support.stores import Listener, make_store, noise, tensor_file, weights, write_tree
from tools.benchmarks.put_files import Silent
from zipfs.cli.commands.ingest import _Shower
from zipfs.ingest.import_tree import find
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.progress import Progress
from zipfs.ingest.worker import Reporter
from zipfs.store.store import Store, open_store

WATCHERS: Final[dict[str, Callable[[], Progress]]] = {
    "command on a terminal": lambda: _Shower(Bar(disable=True), 1000),
    "command": lambda: _Shower(None, None),
    "worker": Reporter,
    "benchmarks": Silent,
    "tests": Listener,
}

FILES: Final = {
    b"model.safetensors": tensor_file({"a": ("BF16", (40_000,), weights(40_000)), "b": ("U8", (999,), noise(999))}),
    b"again.safetensors": tensor_file({"a": ("BF16", (40_000,), weights(40_000))}),
    b"text": b"all happy families " * 100,
    b"empty": b"",
}


class Recorder:
    """A Progress that keeps what it is told, in order, and checks the order."""

    def __init__(self) -> None:
        self.nbytes: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.ended: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self._open: str | None = None

    def waiting(self, why: str) -> None:
        assert why

    def began(self, shown: str, nbytes: int) -> None:
        assert shown not in self.nbytes
        assert nbytes >= 0
        self._open = shown
        self.nbytes[shown], self.done[shown] = nbytes, 0

    def advanced(self, nbytes: int) -> None:
        assert self._open is not None, "work on no file"
        assert nbytes >= 0
        self.done[self._open] += nbytes

    def stored(self, shown: str, nbytes: int, stored_nbytes: int) -> None:
        assert self.nbytes[shown] == nbytes
        assert stored_nbytes >= 0
        self.ended.append(shown)

    def failed(self, shown: str, message: str) -> None:
        assert message
        self.failures.append((shown, message))
        self.ended.append(shown)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(make_store(tmp_path, {})) as made:
        yield made


def ingest(store: Store, folder: Path, progress: Progress) -> None:
    pipeline = Pipeline(store, progress)
    try:
        pipeline.run(find(store, folder, b"model").sources)
    finally:
        pipeline.close()


def test_each_file_begins_counts_twice_and_ends_once(store: Store, tmp_path: Path) -> None:
    told = Recorder()
    ingest(store, write_tree(tmp_path / "files", FILES), told)
    assert sorted(told.nbytes.values()) == sorted(map(len, FILES.values()))
    assert sorted(told.ended) == sorted(told.nbytes)
    assert told.failures == []
    assert told.done == {shown: 2 * nbytes for shown, nbytes in told.nbytes.items()}


def test_a_file_that_is_gone_fails_and_the_others_are_stored(store: Store, tmp_path: Path) -> None:
    folder, told = write_tree(tmp_path / "files", FILES), Recorder()
    pipeline = Pipeline(store, told)
    try:
        found = find(store, folder, b"model").sources
        (folder / "text").unlink()
        pipeline.run(found)
    finally:
        pipeline.close()
    assert len(told.failures) == 1
    assert "text" in told.failures[0][1]
    assert len(told.ended) == len(set(told.ended)) == len(FILES)


@pytest.mark.parametrize("name", WATCHERS)
def test_a_watcher_takes_all_that_is_told(name: str, store: Store, tmp_path: Path) -> None:
    watcher = WATCHERS[name]()
    watcher.waiting("another process compresses")
    ingest(store, write_tree(tmp_path / "files", FILES), watcher)
