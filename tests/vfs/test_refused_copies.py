"""What is taken away of what a refused copy has left, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, InodeId
from zipfs.store.store import Store, open_store
from zipfs.vfs.refused_copies import HINT, QUIET_S, RefusedCopies, take_away, topmost


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def directories(store: Store, *paths: bytes) -> list[InodeId]:
    with store.transaction() as txn:
        return [tree.make_directories(txn, path) for path in paths]


def test_only_directories_that_were_made_for_the_copy_count() -> None:
    clock = Clock()
    refused = RefusedCopies(clock)
    refused.refuse(InodeId(5), b"file")  # of a directory that was there before
    assert refused.due_in_s() is None
    refused.made(InodeId(6))
    clock.now_s += 3600
    refused.refuse(InodeId(6), b"file")  # and of one that was made for something else
    assert refused.due_in_s() is None
    refused.made(InodeId(7))
    refused.refuse(InodeId(7), b"file")
    assert refused.due_in_s() == QUIET_S
    clock.now_s += 2 * QUIET_S
    assert refused.due_in_s() == 0
    assert refused.take()[0] == [InodeId(7)]
    assert refused.due_in_s() is None


def test_the_status_says_for_an_hour_where_to_copy_to() -> None:
    clock = Clock()
    refused = RefusedCopies(clock)
    assert refused.hints() == []
    refused.refuse(ROOT, b"file")
    assert refused.hints() == [HINT]
    clock.now_s += 3601
    assert refused.hints() == []


def test_what_was_made_in_one_go_goes_as_a_whole(store: Store) -> None:
    model, part, old = directories(store, b"old/model", b"old/model/part", b"old")
    made = {model: 10.0, part: 11.0}
    assert topmost([part, model], made, store.catalog) == {model: b"old/model"}
    with store.transaction() as txn:
        assert take_away(model, made, txn).inode is not None
    assert [inode.id for _, inode in tree.walk(store.catalog, store.catalog.inode(ROOT))] == [ROOT, old]


def test_where_something_else_has_come_in_all_of_it_stays(store: Store) -> None:
    model, other = directories(store, b"model", b"model/other")
    with store.transaction() as txn:
        assert take_away(model, {model: 10.0}, txn).inode is None
        assert take_away(InodeId(4711), {}, txn).inode is None
    assert tree.resolve(store.catalog, b"model/other").id == other
    assert topmost([InodeId(4711)], {InodeId(4711): 1.0}, store.catalog) == {}
