"""What a writer can do below `ingest/`, and what that means for the served tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import (
    compress,
    contents,
    copy_in,
    ingest_directory,
    noise,
    pending_names,
    problems,
    put_file,
    served_inode,
    spooled,
)
from zipfs.errors import AlreadyExists, InvalidMove, IsADirectory, NotADirectory, NotEmpty, NotFound
from zipfs.ingest.queue import seal_everything
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Area, InodeId, Kind
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store
        assert problems(store) == []


def move(store: Store, old: bytes, new: bytes) -> None:
    """rename(2) below `ingest/`."""
    ends: list[tuple[InodeId, bytes]] = []
    for path in (old, new):
        parent, _, name = path.rpartition(b"/")
        ends.append((tree.resolve(store.catalog, parent, INGEST_ROOT).id, name))
    with store.transaction() as txn:
        ingest_side.rename(txn, *ends[0], *ends[1])


def test_a_temporary_name_is_replaced_by_the_final_one(store: Store) -> None:
    copy_in(store, b"m/.tmpXYZ", b"new")
    copy_in(store, b"m/file", b"old")
    move(store, b"m/.tmpXYZ", b"m/file")
    compress(store)
    assert contents(store.path) == {b"m/file": b"new"}


def test_a_move_of_what_is_sealed_moves_what_is_served(store: Store) -> None:
    copy_in(store, b"m/a", b"1")
    seal_everything(store)
    move(store, b"m/a", b"m/b")
    assert contents(store.path) == {b"m/b": b"1"}
    compress(store)
    assert contents(store.path) == {b"m/b": b"1"}
    assert pending_names(store) == {(b"m/b", Area.LINGERING)}


def test_a_move_of_a_directory_takes_all_of_it_along(store: Store) -> None:
    files = {b"m/a": b"1", b"m/sub/b": b"2", b"m/sub/deep/c": b"3"}
    for name, content in files.items():
        copy_in(store, name, content)
    seal_everything(store)
    copy_in(store, b"m/sub/late", b"4")  # not sealed yet
    move(store, b"m", b"n")
    compress(store)
    assert contents(store.path) == {
        b"n" + name[1:]: content for name, content in {**files, b"m/sub/late": b"4"}.items()
    }
    with pytest.raises(NotFound):
        served_inode(store, b"m")


def test_a_move_leaves_alone_what_is_served_by_others(store: Store, tmp_path: Path) -> None:
    copy_in(store, b"m/a", b"copied")
    seal_everything(store)
    compress(store)
    put_file(store, tmp_path, b"m/a", b"ingested since")
    put_file(store, tmp_path, b"m/other", b"not ours")
    if store.catalog.entry(ingest_directory(store, b"m"), b"a") is not None:
        move(store, b"m/a", b"m/b")
        compress(store)
        assert contents(store.path)[b"m/b"] == b"copied"
    found = contents(store.path)
    assert found[b"m/a"] == b"ingested since"
    assert found[b"m/other"] == b"not ours"


def test_a_move_onto_a_served_file_replaces_it(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path, b"m/b", b"before")
    copy_in(store, b"m/a", b"after")
    seal_everything(store)
    move(store, b"m/a", b"m/b")
    compress(store)
    assert contents(store.path) == {b"m/b": b"after"}


def test_moves_that_rename_refuses(store: Store) -> None:
    copy_in(store, b"m/file", b"1")
    copy_in(store, b"n/file", b"2")
    with pytest.raises(NotEmpty):
        move(store, b"m", b"n")
    with pytest.raises(InvalidMove):
        move(store, b"m", b"m/inside")
    with pytest.raises(IsADirectory):
        move(store, b"m/file", b"n")
    with pytest.raises(NotADirectory):
        move(store, b"m", b"n/file")
    with pytest.raises(NotFound):
        move(store, b"m/missing", b"n/x")
    for name in (b"ingest", b".zipfs"):
        with pytest.raises(AlreadyExists):
            move(store, b"m", name)
        with pytest.raises(AlreadyExists), store.transaction() as txn:
            ingest_side.create(txn, INGEST_ROOT, name, Kind.DIRECTORY, 0o755, 0, 0)
    move(store, b"m/file", b"n/file")
    assert spooled(store) == {b"n/file": b"1"}


def test_two_names_of_one_file_stay_when_one_is_moved_onto_the_other(store: Store) -> None:
    inode = copy_in(store, b"m/a", b"1")
    with store.transaction() as txn:
        ingest_side.link(txn, inode, ingest_directory_in(store, b"m"), b"b")
    move(store, b"m/a", b"m/b")
    assert spooled(store) == {b"m/a": b"1", b"m/b": b"1"}


def ingest_directory_in(store: Store, path: bytes) -> InodeId:
    return tree.resolve(store.catalog, path, INGEST_ROOT).id


def test_a_directory_has_one_name_only(store: Store) -> None:
    directory = ingest_directory(store, b"m")
    with pytest.raises(InvalidMove), store.transaction() as txn:
        ingest_side.link(txn, txn.catalog.inode(directory), INGEST_ROOT, b"n")


def test_names_are_taken_once_and_bytes(store: Store) -> None:
    name = bytes(range(1, 47)) + bytes(range(48, 256))
    copy_in(store, name, b"1")
    with pytest.raises(AlreadyExists), store.transaction() as txn:
        ingest_side.create(txn, INGEST_ROOT, name, Kind.FILE, 0o644, 0, 0)
    inode = copy_in(store, b"file", b"2")
    with pytest.raises(NotADirectory), store.transaction() as txn:
        ingest_side.create(txn, inode.id, b"below", Kind.FILE, 0o644, 0, 0)
    compress(store)
    assert contents(store.path) == {name: b"1", b"file": b"2"}


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    before = store.manifests.nbytes(store.catalog.position().segment)

    def make_and_fail() -> None:
        with store.transaction() as txn:
            tree.make_directories(txn, b"a/b/c")
            ingest_side.create(txn, INGEST_ROOT, b".zipfs", Kind.FILE, 0o644, 0, 0)

    with pytest.raises(AlreadyExists):
        make_and_fail()
    assert store.manifests.nbytes(store.catalog.position().segment) == before
    with pytest.raises(NotFound):
        served_inode(store, b"a")


def test_moves_in_the_served_tree(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path, b"a/x", noise(300, 1))
    put_file(store, tmp_path, b"b/y", noise(300, 2))
    a, b = served_inode(store, b"a").id, served_inode(store, b"b").id
    with store.transaction() as txn:
        tree.rename(txn, a, b"x", b, b"y")
    assert contents(store.path) == {b"b/y": noise(300, 1)}
    with store.transaction() as txn:
        tree.rename(txn, ROOT, b"b", a, b"inner")
    assert contents(store.path) == {b"a/inner/y": noise(300, 1)}
    with pytest.raises(InvalidMove), store.transaction() as txn:
        tree.rename(txn, ROOT, b"a", b, b"loop")
    with pytest.raises(AlreadyExists), store.transaction() as txn:
        tree.rename(txn, ROOT, b"a", ROOT, b"ingest")
    put_file(store, tmp_path, b"c/z", b"3")
    c = served_inode(store, b"c").id
    with store.transaction() as txn:
        tree.exchange(txn, ROOT, b"c", a, b"inner")
    assert contents(store.path) == {b"c/y": noise(300, 1), b"a/inner/z": b"3"}
    with pytest.raises(InvalidMove), store.transaction() as txn:
        tree.exchange(txn, ROOT, b"a", a, b"inner")
    assert c == served_inode(store, b"a/inner").id
