"""A file with thousands of names: what is asked at each write and each removal does not look at all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stores import copy_in
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.objects.values import INGEST_ROOT, InodeId, Kind, State
from zipfs.store.store import Store, open_store

_NAMES = 1000


def _steps(store: Store, work: Callable[[], object]) -> int:
    """How many instructions of SQLite's machine something takes."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    store.catalog._db.set_progress_handler(count, 1)
    work()
    store.catalog._db.set_progress_handler(None, 1)
    return counted


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Store, InodeId]:
    store = open_store(tmp_path / "store", create=True)
    inode = copy_in(store, b"file", b"content")
    with store.transaction() as txn:
        for number in range(_NAMES):
            ingest_side.link(txn, txn.catalog.inode(inode.id), INGEST_ROOT, b"%d" % number)
    return store, inode.id


def test_a_write_looks_at_directories_only(linked: tuple[Store, InodeId]) -> None:
    store, inode_id = linked
    with store:
        assert store.catalog.ingest_parents(inode_id) == {INGEST_ROOT}
        assert _steps(store, lambda: store.catalog.ingest_parents(inode_id)) < 200
        with store.transaction() as txn:
            other = ingest_side.create(txn, INGEST_ROOT, b"dir", Kind.DIRECTORY, 0o755, 0, 0)
            ingest_side.link(txn, txn.catalog.inode(inode_id), other.id, b"name")
        assert store.catalog.ingest_parents(inode_id) == {INGEST_ROOT, other.id}


def test_a_removal_finds_out_that_it_is_not_the_last_without_looking_at_the_others(
    linked: tuple[Store, InodeId],
) -> None:
    store, inode_id = linked
    with store, store.transaction() as txn:
        assert _steps(store, lambda: tree.unlink(txn, INGEST_ROOT, b"7")) < _NAMES
        assert store.catalog.link_count(inode_id, under_ingest=True) == _NAMES
        assert store.catalog.link_count(inode_id, under_ingest=False) == 0
        assert store.catalog.inode(inode_id).state is State.OPEN
