"""Names and what they lead to, asked for one by one and many at once: the same rows, checked as strictly."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sql import sql
from tests.support.stores import copy_in, ingest_directory
from zipfs.errors import CatalogDamaged, NotFound
from zipfs.ingest.queue import seal_everything
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.tree_queries import NAMES_AT_ONCE
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Area, Entry, InodeId, Kind, State, is_name
from zipfs.store.store import Store, open_store

names = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name).filter(is_name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store


def put_links(store: Store, parent_id: InodeId, links: dict[bytes, bytes]) -> None:
    """Symlinks of these names and targets, in the served tree."""
    with store.transaction() as txn:
        for name, target in links.items():
            inode = tree.new_inode(txn, Kind.SYMLINK, Event.MAKE_SERVED, 0o777, 0, 0, target)
            txn.put_entry(Entry(parent_id, name, inode.id, Area.SERVED))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("names") / "store", create=True) as store:
        yield store


@given(there=st.dictionaries(names, names, max_size=80), absent=st.sets(names, max_size=20), start=names)
def test_names_lead_to_the_same_however_they_are_asked_for(
    shared: Store, there: dict[bytes, bytes], absent: set[bytes], start: bytes
) -> None:
    with shared.transaction() as txn:
        directory = tree.new_inode(txn, Kind.DIRECTORY, Event.MAKE_SERVED, 0o755, 0, 0).id
    put_links(shared, directory, there)
    catalog = shared.catalog
    assert [entry.name for entry, _ in catalog.children(directory)] == sorted(there)
    assert catalog.names_after(directory, None, 1000) == sorted(there)
    assert catalog.names_after(directory, start, 3) == sorted(name for name in there if name > start)[:3]
    asked = sorted(absent | set(there))
    together = {}
    for first in range(0, len(asked), NAMES_AT_ONCE):
        together.update(catalog.children_named(directory, asked[first : first + NAMES_AT_ONCE]))
    assert {name: inode.target for name, (inode, _) in together.items()} == there
    for name in asked:
        alone = catalog.child(directory, name)
        assert alone == together.get(name)
        entry = catalog.entry(directory, name)
        assert (entry is None) == (alone is None)
        if entry is not None and alone is not None:
            assert alone[0] == catalog.inode(entry.inode_id)
            assert alone == catalog.inode_and_names(entry.inode_id)


def test_no_names_lead_nowhere(store: Store) -> None:
    assert store.catalog.children_named(ROOT, []) == {}
    assert store.catalog.child(ROOT, b"absent") is None
    assert store.catalog.names_after(InodeId(999), None, 10) == []
    with pytest.raises(NotFound):
        store.catalog.inode_and_names(InodeId(999))


def test_names_are_counted_in_both_trees(store: Store) -> None:
    inode = copy_in(store, b"m/file", b"1")
    assert store.catalog.inode_and_names(inode.id)[1] == 1
    seal_everything(store)  # which leaves a lingering entry
    assert store.catalog.inode_and_names(inode.id)[1] == 2
    with store.transaction() as txn:
        tree.link(txn, ROOT, b"another", txn.catalog.inode(inode.id), Event.SERVE)
    found = store.catalog.child(ROOT, b"another")
    assert found is not None and found[1] == 3
    assert store.catalog.link_count(inode.id, under_ingest=False) == 2
    assert store.catalog.link_count(inode.id, under_ingest=True) == 1


LOOKS: list[Callable[[Catalog], object]] = [
    lambda catalog: catalog.child(ROOT, b"hurt"),
    lambda catalog: catalog.children_named(ROOT, [b"hurt", b"well"]),
    lambda catalog: catalog.children(ROOT),
]


def damage(store: Store, statement: str) -> None:
    """Change a row behind the schema's back, as a flipped bit does."""
    sql(store.catalog, "PRAGMA ignore_check_constraints = ON")
    sql(store.catalog, "PRAGMA foreign_keys = OFF")
    sql(store.catalog, statement)


@pytest.mark.parametrize(
    "column",
    [
        "kind = 'dir'", "kind = 'dirs'", "kind = x'00'", "state = 'stored'", "mode = mode | 2048", "mode = 'text'",
        "uid = 1", "gid = 7", "nbytes = nbytes + 1", "mtime_ns = mtime_ns - 1", "mtime_ns = 0.5", "ctime_ns = 1",
        "target = x'00'", "target = 'aim'", "target = NULL", "stored_nbytes = 1", "sha256 = x'00'", "layout_sum = 1",
        "sum = sum + 1", "sum = 'text'", "atime_ns = atime_ns + 1", "atime_ns = NULL", "atime_ns = 0.5",
    ],
)  # fmt: skip
def test_a_damaged_inode_is_told(store: Store, column: str) -> None:
    put_links(store, ROOT, {b"hurt": b"aim", b"well": b"aim"})
    inode_id = tree.require(store.catalog, ROOT, b"hurt").inode_id
    damage(store, f"UPDATE inodes SET {column} WHERE id = {inode_id}")
    by_id: list[Callable[[Catalog], object]] = [
        lambda catalog: catalog.inode(inode_id),
        lambda catalog: catalog.inode_and_names(inode_id),
    ]
    for look in LOOKS + by_id:
        with pytest.raises(CatalogDamaged):
            look(store.catalog)
    assert store.catalog.child(ROOT, b"well") is not None


@pytest.mark.parametrize("column", ["area = 1", "sum = 0", "inode_id = 1"])
def test_a_damaged_name_is_told(store: Store, column: str) -> None:
    put_links(store, ROOT, {b"hurt": b"aim", b"well": b"aim"})
    damage(store, f"UPDATE entries SET {column} WHERE name = x'68757274'")
    for look in LOOKS:
        with pytest.raises(CatalogDamaged):
            look(store.catalog)


def test_a_name_of_another_type_is_told(store: Store) -> None:
    put_links(store, ROOT, {b"hurt": b"aim", b"well": b"aim"})
    damage(store, "UPDATE entries SET name = 'hurt' WHERE name = x'68757274'")
    assert store.catalog.child(ROOT, b"hurt") is None
    for other in ("'hurt'", "7", "0.5"):
        damage(store, f"UPDATE entries SET name = {other} WHERE name <> x'77656c6c'")
        for look in (store.catalog.children, lambda parent_id: store.catalog.names_after(parent_id, None, 10)):
            with pytest.raises(CatalogDamaged):
                look(ROOT)


# What waits


def test_what_waits_is_found_by_directory(store: Store) -> None:
    copy_in(store, b"a/one", b"1")
    copy_in(store, b"a/two", b"2")
    copy_in(store, b"b/three", b"3")
    a, b = ingest_directory(store, b"a"), ingest_directory(store, b"b")
    catalog = store.catalog
    assert {entry.name for entry, _ in catalog.pending()} == {b"a", b"b", b"one", b"two", b"three"}
    assert {entry.name for entry, _ in catalog.pending(a)} == {b"one", b"two"}
    assert catalog.pending_directories() == {INGEST_ROOT, a, b}
    seal_everything(store)
    assert catalog.pending() == catalog.pending(a) == []
    assert catalog.pending_directories() == set()


def steps(catalog: Catalog, look: Callable[[], object]) -> int:
    """How much SQLite does for something, in hundreds of its instructions."""
    count = itertools.count()
    catalog._db.set_progress_handler(lambda: next(count) and None, 100)
    try:
        look()
    finally:
        catalog._db.set_progress_handler(None, 0)
    return next(count)


def test_what_is_served_costs_nothing_when_nothing_waits(store: Store) -> None:
    with store.transaction() as txn:
        directory = tree.make_directories(txn, b"full")
    put_links(store, directory, {b"%d" % number: b"aim" for number in range(3000)})
    catalog = store.catalog
    assert steps(catalog, lambda: catalog.children(directory)) > 100
    for look in (
        catalog.pending, catalog.pending_directories, catalog.spooled,
        lambda: catalog.inodes_in(State.SEALED), lambda: catalog.names_after(directory, b"1", 10),
        lambda: catalog.child(directory, b"7"), lambda: catalog.children_named(directory, [b"7", b"8"]),
    ):  # fmt: skip
        assert steps(catalog, look) < 5


def test_spool_files_are_those_of_open_and_sealed_inodes(store: Store) -> None:
    inode = copy_in(store, b"m/file", b"1")
    assert store.catalog.spooled() == {inode.id}
    seal_everything(store)
    assert store.catalog.spooled() == {inode.id} == {InodeId(int(name)) for name in os.listdir(store.path / "spool")}
