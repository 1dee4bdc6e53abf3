"""When what was copied in is taken as finished, and what becomes of it then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from zipfs.ingest import door
from zipfs.ingest.names import is_unfinished
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.seal import Pending, drop_echoes, find_pending, plan_seals, seal
from zipfs.store import removal, tree
from zipfs.store.rows import INGEST_ROOT, Area, Entry, Inode, InodeId, Kind, State
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store
        assert problems(store) == []


# Plans


def pending(inode_id: int, path: bytes, parent: int, kind: Kind = Kind.FILE) -> Pending:
    state = State.OPEN if kind is Kind.FILE else State.NONE
    target = b"t" if kind is Kind.SYMLINK else None
    inode = Inode(InodeId(inode_id), kind, state, 0o644, 0, 0, 0, 0, 0, target)
    return Pending(Entry(InodeId(parent), path.rpartition(b"/")[2], inode.id, Area.PENDING), inode, path)


A, B = InodeId(10), InodeId(20)
IN_A, ALSO_IN_A, IN_B = pending(11, b"a/x", A), pending(12, b"a/y", A), pending(21, b"b/z", B)


def test_a_directory_is_sealed_when_it_has_been_quiet() -> None:
    plan = plan_seals([IN_A, ALSO_IN_A, IN_B], (), {A: 100.0, B: 103.0}, 104.0, 2.0)
    assert plan.ready == ((IN_A, ALSO_IN_A),)
    assert plan.next_s == pytest.approx(1.0)


def test_one_file_that_is_being_written_keeps_its_directory_back() -> None:
    plan = plan_seals([IN_A, ALSO_IN_A, IN_B], {ALSO_IN_A.inode.id}, {}, 100.0, 2.0)
    assert plan.ready == ((IN_B,),)
    assert plan.next_s is None


def test_unfinished_names_wait_and_keep_nothing_back() -> None:
    part = pending(13, b"a/weights.incomplete", A)
    deep = pending(14, b".git/objects/x", 30)
    plan = plan_seals([IN_A, part, deep], {part.inode.id}, {}, 100.0, 2.0)
    assert plan.ready == ((IN_A,),)
    assert plan.unfinished == (part, deep)


def test_a_directory_comes_after_its_files() -> None:
    itself = pending(int(A), b"a", 2, Kind.DIRECTORY)
    (group,) = plan_seals([itself, IN_A], (), {}, 0.0, 0.0).ready
    assert group == (IN_A, itself)


@given(
    st.lists(st.sampled_from([IN_A, ALSO_IN_A, IN_B]), unique_by=lambda item: item.inode.id),
    st.sets(st.sampled_from([11, 12, 21])),
    st.dictionaries(st.sampled_from([A, B]), st.floats(0, 200)),
    st.floats(0, 200),
    st.floats(0, 10),
)
def test_whatever_is_sealed_is_quiet_and_closed(
    items: list[Pending], writing: set[int], changes: dict[InodeId, float], now_s: float, quiet_s: float
) -> None:
    plan = plan_seals(items, {InodeId(i) for i in writing}, changes, now_s, quiet_s)
    for group in plan.ready:
        assert not {item.inode.id for item in group} & writing
        assert changes.get(group[0].directory, -1e9) + quiet_s <= now_s + 1e-6
        assert {item.directory for item in group} == {group[0].directory}
    if plan.next_s is not None:
        assert plan.next_s > 0


@pytest.mark.parametrize(
    "name",
    [
        "x.incomplete", "x.lock", "x.part", "x.partial", "x.tmp", ".tmpAbC", ".tmp", "x.crdownload", "x.aria2",
        ".model.safetensors.Xy12ab", ".git", ".git/config", "m/.git/HEAD", ".cache/huggingface/download/x",
        "m/.cache/huggingface/x", "m/.cache/huggingface", ".~tmp~/x", ".rsync-partial/x", "x~",
    ],
)  # fmt: skip
def test_unfinished_names(name: str) -> None:
    assert is_unfinished(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors", "config.json", ".gitattributes", ".gitignore", "part", "lock", "tmp", "m/.cache/other/x",
        "incomplete", "model.part1", "a.b.c", ".hidden", "templates/x.tmpl", "\udcff",
    ],
)  # fmt: skip
def test_finished_names(name: str) -> None:
    assert not is_unfinished(os.fsencode(name))


# Effects


def test_a_sealed_file_is_served_at_once_and_stays_when_it_is_compressed(store: Store) -> None:
    content = noise(5000)
    copy_in(store, b"m/sub/file", content)
    assert contents(store.path) == {}
    seal_everything(store)
    assert contents(store.path) == {b"m/sub/file": content}
    assert served_inode(store, b"m/sub/file").state is State.SEALED
    assert spooled(store) == {b"m/sub/file": content}  # whoever looks again finds what it wrote
    compress(store)
    assert contents(store.path) == {b"m/sub/file": content}
    assert served_inode(store, b"m/sub/file").state is State.STORED
    assert list((store.path / "spool").iterdir()) == []


def test_echoes_are_dropped_with_their_directories(store: Store) -> None:
    copy_in(store, b"m/sub/file", b"1")
    seal_everything(store)
    directories = store.catalog.echo_directories()
    drop_echoes(store, directories)
    assert pending_names(store) == {(b"m/sub/file", Area.ECHO)}  # not compressed yet
    compress(store)
    drop_echoes(store, directories)
    directories |= store.catalog.echo_directories()
    drop_echoes(store, directories)
    assert pending_names(store) == set()
    assert store.catalog.children(INGEST_ROOT) == []
    assert contents(store.path) == {b"m/sub/file": b"1"}


def test_a_file_at_the_same_path_is_replaced(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path, b"m/file", b"first")
    copy_in(store, b"m/file", b"second")
    assert contents(store.path) == {b"m/file": b"first"}
    seal_everything(store)
    assert contents(store.path) == {b"m/file": b"second"}
    compress(store)
    assert contents(store.path) == {b"m/file": b"second"}


def test_writing_again_what_is_sealed_makes_a_new_version(store: Store) -> None:
    first = copy_in(store, b"m/file", b"first")
    seal_everything(store)
    second = copy_in(store, b"m/file", b"second")
    assert second.id != first.id
    assert contents(store.path) == {b"m/file": b"first"}
    assert spooled(store) == {b"m/file": b"second"}
    compress(store)
    assert contents(store.path) == {b"m/file": b"second"}
    assert pending_names(store) == {(b"m/file", Area.ECHO)}


def test_a_file_where_a_directory_is_served_waits_with_a_reason(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path, b"m/file", b"1")
    inode = copy_in(store, b"m", b"a file of that name")
    copy_in(store, b"other", b"2")
    seal_everything(store)
    assert contents(store.path) == {b"m/file": b"1", b"other": b"2"}
    message, attempts, _ = store.catalog.failures()[inode.id]
    assert "cannot be served at m" in message
    assert attempts == 1
    assert pending_names(store) >= {(b"m", Area.PENDING)}
    tree_path = store.path
    with store.transaction() as txn:
        tree.remove_tree(txn, InodeId(1), b"m")
    seal_everything(store)
    assert contents(tree_path) == {b"m": b"a file of that name", b"other": b"2"}
    assert store.catalog.failures() == {}


def test_a_file_below_a_served_file_waits_with_a_reason(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path, b"m", b"a file")
    copy_in(store, b"m/below", b"1")
    seal_everything(store)
    assert contents(store.path) == {b"m": b"a file"}
    assert len(store.catalog.failures()) >= 1


def test_names_that_are_not_finished_are_never_served(store: Store) -> None:
    copy_in(store, b"m/weights.incomplete", b"half")
    copy_in(store, b"m/.git/config", b"x")
    copy_in(store, b"m/config.json", b"{}")
    compress(store)
    assert contents(store.path) == {b"m/config.json": b"{}"}
    (parent,) = [entry.inode_id for entry, _ in store.catalog.children(INGEST_ROOT)]
    with store.transaction() as txn:
        door.rename(txn, parent, b"weights.incomplete", parent, b"weights")
    compress(store)
    assert contents(store.path) == {b"m/config.json": b"{}", b"m/weights": b"half"}


def test_an_empty_directory_is_served_with_its_attributes(store: Store) -> None:
    directory = ingest_directory(store, b"a/empty")
    with store.transaction() as txn:
        inode = txn.catalog.inode(directory)
        changed = Inode(directory, inode.kind, inode.state, 0o751, 5, 6, 0, 123_456_789, inode.ctime_ns)
        txn.put_inode(changed)
    seal_everything(store)
    served = served_inode(store, b"a/empty")
    assert (served.mode, served.uid, served.gid, served.mtime_ns) == (0o751, 5, 6, 123_456_789)


def test_what_moved_since_it_was_planned_is_not_sealed(store: Store) -> None:
    copy_in(store, b"a/file", b"1")
    groups = plan_seals(find_pending(store.catalog), (), {}, 0.0, 0.0).ready
    (parent,) = [entry.inode_id for entry, _ in store.catalog.children(INGEST_ROOT)]
    with store.transaction() as txn:
        door.rename(txn, parent, b"file", INGEST_ROOT, b"elsewhere")
    for group in groups:
        seal(store, group)
    assert contents(store.path) == {}
    seal_everything(store)
    assert contents(store.path) == {b"elsewhere": b"1"}


def test_a_hard_link_is_one_file_with_two_names(store: Store) -> None:
    inode = copy_in(store, b"m/one", noise(3000))
    parent = ingest_directory(store, b"m")
    with store.transaction() as txn:
        door.link(txn, txn.catalog.inode(inode.id), parent, b"two")
    compress(store)
    assert contents(store.path) == {b"m/one": noise(3000), b"m/two": noise(3000)}
    assert served_inode(store, b"m/one").id == served_inode(store, b"m/two").id


def test_what_is_removed_before_it_is_compressed_leaves_nothing(store: Store) -> None:
    copy_in(store, b"m/file", noise(3000))
    seal_everything(store)
    removal.remove(store, b"m/file")
    assert list((store.path / "spool").iterdir()) == []
    compress(store)
    assert contents(store.path) == {}
