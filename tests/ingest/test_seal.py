"""When what was copied in is taken as finished, and what becomes of it then."""

from __future__ import annotations

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
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.seal import seal
from zipfs.ingest.seal_plan import Held, Pending, plan_everything, plan_seals, quiet_groups
from zipfs.store.maintenance import remove
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.namespace.unfinished import STANDARD
from zipfs.store.objects.values import INGEST_ROOT, Area, Entry, Inode, InodeId, Kind, State
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store
        assert problems(store) == []


# Plans


def pending(inode_id: int, path: bytes, parent: int, kind: Kind = Kind.FILE, *, cut: bool = False) -> Pending:
    state = State.OPEN if kind is Kind.FILE else State.NONE
    target = b"t" if kind is Kind.SYMLINK else None
    inode = Inode(InodeId(inode_id), kind, state, 0o644, 0, 0, 0, 0, 0, target)
    entry = Entry(InodeId(parent), path.rpartition(b"/")[2], inode.id, Area.PENDING)
    unfinished = STANDARD.covers(path, is_directory=kind is Kind.DIRECTORY)
    return Pending(entry, inode, path, unfinished, cut)


A, B = InodeId(10), InodeId(20)
IN_A, ALSO_IN_A, IN_B = pending(11, b"a/x", A), pending(12, b"a/y", A), pending(21, b"b/z", B)
EACH = {A: A, B: B}
"""Two models."""


def test_a_directory_is_quiet_when_nothing_has_changed_for_a_while() -> None:
    groups, next_s = quiet_groups(EACH, {A: 100.0, B: 103.0}, 104.0, 2.0)
    assert groups == [{A}]
    assert next_s == pytest.approx(1.0)


def test_directories_of_one_model_are_quiet_together() -> None:
    groups, next_s = quiet_groups({A: A, B: A}, {A: 100.0, B: 103.0}, 104.0, 2.0)
    assert groups == []
    assert next_s == pytest.approx(1.0)
    assert quiet_groups({A: A, B: A}, {A: 100.0, B: 103.0}, 105.0, 2.0) == ([{A, B}], None)


def test_directories_of_one_model_are_sealed_together() -> None:
    assert plan_seals([IN_A, ALSO_IN_A, IN_B], EACH, ()).ready == ((IN_A, ALSO_IN_A), (IN_B,))
    assert plan_seals([IN_A, ALSO_IN_A, IN_B], {A: A, B: A}, ()).ready == ((IN_A, ALSO_IN_A, IN_B),)


def test_one_file_that_is_being_written_keeps_its_model_back() -> None:
    plan = plan_seals([IN_A, ALSO_IN_A, IN_B], EACH, {ALSO_IN_A.inode.id})
    assert plan.ready == ((IN_B,),)
    assert plan.held == (Held((IN_A, ALSO_IN_A), (ALSO_IN_A,), ()),)


def test_one_file_that_was_cut_off_keeps_its_model_back_until_it_is_written_again() -> None:
    cut = pending(13, b"a/cut", A, cut=True)
    plan = plan_seals([IN_A, cut, IN_B], EACH, ())
    assert plan.ready == ((IN_B,),)
    assert plan.held == (Held((IN_A, cut), (), (cut,)),)


def test_unfinished_names_wait_and_keep_nothing_back_unless_somebody_writes_to_them() -> None:
    part = pending(13, b"a/weights.incomplete", A)
    deep = pending(14, b".git/objects/x", 30)
    plan = plan_seals([IN_A, part, deep], EACH, ())
    assert plan.ready == ((IN_A,),)
    assert plan.unfinished == (part, deep)
    plan = plan_seals([IN_A, part, deep], EACH, {part.inode.id})
    assert plan.ready == ()
    assert plan.held == (Held((IN_A,), (part,), ()),)


def test_a_directory_comes_after_its_files() -> None:
    itself = pending(int(A), b"a", 2, Kind.DIRECTORY)
    (group,) = plan_seals([itself, IN_A], EACH, ()).ready
    assert group == (IN_A, itself)


@given(
    st.lists(st.sampled_from([IN_A, ALSO_IN_A, IN_B]), unique_by=lambda item: item.inode.id),
    st.sets(st.sampled_from([11, 12, 21])),
    st.dictionaries(st.sampled_from([A, B]), st.sampled_from([A, B])),
    st.dictionaries(st.sampled_from([A, B]), st.floats(0, 200)),
    st.floats(0, 200),
    st.floats(0, 10),
)
def test_whatever_is_sealed_is_quiet_and_closed(
    items: list[Pending],
    writing: set[int],
    leaders: dict[InodeId, InodeId],
    changes: dict[InodeId, float],
    now_s: float,
    quiet_s: float,
) -> None:
    groups, next_s = quiet_groups(leaders, changes, now_s, quiet_s)
    for directories in groups:
        assert all(changes.get(directory, -1e9) + quiet_s <= now_s + 1e-6 for directory in directories)
        assert len({leaders[directory] for directory in directories}) == 1
    assert next_s is None or next_s > 0
    plan = plan_seals(items, leaders, {InodeId(i) for i in writing})
    for group in plan.ready:
        assert not {item.inode.id for item in group} & writing
        assert len({leaders.get(item.directory, item.directory) for item in group}) == 1


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
    assert pending_names(store) == {(b"m/file", Area.LINGERING)}


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
        ingest_side.rename(txn, parent, b"weights.incomplete", parent, b"weights")
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
    groups = plan_everything(store).ready
    (parent,) = [entry.inode_id for entry, _ in store.catalog.children(INGEST_ROOT)]
    with store.transaction() as txn:
        ingest_side.rename(txn, parent, b"file", INGEST_ROOT, b"elsewhere")
    for group in groups:
        seal(store, group)
    assert contents(store.path) == {}
    seal_everything(store)
    assert contents(store.path) == {b"elsewhere": b"1"}


def test_a_hard_link_is_one_file_with_two_names(store: Store) -> None:
    inode = copy_in(store, b"m/one", noise(3000))
    parent = ingest_directory(store, b"m")
    with store.transaction() as txn:
        ingest_side.link(txn, txn.catalog.inode(inode.id), parent, b"two")
    compress(store)
    assert contents(store.path) == {b"m/one": noise(3000), b"m/two": noise(3000)}
    assert served_inode(store, b"m/one").id == served_inode(store, b"m/two").id


def test_what_is_removed_before_it_is_compressed_leaves_nothing(store: Store) -> None:
    copy_in(store, b"m/file", noise(3000))
    seal_everything(store)
    remove.remove(store, b"m/file")
    assert list((store.path / "spool").iterdir()) == []
    compress(store)
    assert contents(store.path) == {}
