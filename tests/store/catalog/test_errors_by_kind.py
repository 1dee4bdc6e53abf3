"""Errors of the catalog are told by what they are: only what contradicts itself is damage."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.sql import sql
from tests.support.stores import contents, make_store, problems, served_inode
from zipfs.errors import (
    CatalogDamaged,
    CatalogUnreadable,
    Gone,
    NoSpace,
    NotWritable,
    Refused,
    Stopped,
    StoreBusy,
    ZipfsError,
)
from zipfs.store.catalog import database
from zipfs.store.disk.stopping import Stop
from zipfs.store.objects.values import ROOT, Area, Entry, InodeId
from zipfs.store.store import Store, open_store

FILES = {b"a/one": b"first", b"a/two": b"second"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path, FILES)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as opened:
        yield opened


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process that has the catalog for itself."""
    db = sqlite3.connect(path / "catalog.db", isolation_level=None, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")
    yield db
    db.close()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"mtime_ns": 1 << 63}, Refused),
        ({"target": "\udcff"}, Refused),
        ({"nbytes": -1}, Refused),
        ({"mtime_ns": object()}, sqlite3.Error),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_and_nothing_is_changed(
    store: Store, change: dict[str, Any], kind: type[Exception]
) -> None:
    inode = served_inode(store, b"a/one")
    with pytest.raises(kind) as raised, store.transaction() as txn:
        txn.put_inode(replace(inode, **change))
    assert not isinstance(raised.value, CatalogDamaged)
    assert "rebuild" not in str(raised.value)
    assert served_inode(store, b"a/one") == inode
    assert problems(store) == []


def test_an_attribute_of_a_file_that_has_gone_is_refused(store: Store) -> None:
    with pytest.raises(Gone) as raised, store.transaction() as txn:
        txn.put_xattr(InodeId(4711), b"user.a", b"1")
    assert raised.value.errno == errno.ESTALE
    assert problems(store) == []


def test_a_name_for_a_file_that_has_gone_is_refused_with_the_table_that_says_so(store: Store) -> None:
    with pytest.raises(Refused, match="entries"), store.transaction() as txn:
        txn.put_entry(Entry(ROOT, b"name", InodeId(4711), Area.SERVED))
    assert problems(store) == []


def test_a_failure_is_noted_whatever_bytes_the_name_is_made_of(store: Store) -> None:
    inode = served_inode(store, b"a/one")
    with store.transaction() as txn:
        txn.put_failure(inode.id, f"cannot be served at {os.fsdecode(b'x/%cff' % 0xFF)}", 1)
    message, _, _ = store.catalog.failures()[inode.id]
    assert "cannot be served" in message


@pytest.mark.parametrize(
    "mistake",
    [
        lambda store: sql(store.catalog, "SELEKT 1"),
        lambda store: sql(store.catalog, "SELECT ?"),
        lambda store: sql(store.catalog, "COMMIT"),
        lambda store: sql(store.catalog, "SELECT ?", (object(),)),
        lambda store: (store.catalog.close(), sql(store.catalog, "SELECT 1")),
        lambda store: (store.catalog.close(), store.catalog.inode(ROOT)),
        lambda store: (store.catalog.close(), store.catalog.packs()),
        lambda store: (store.catalog.close(), store.reserve_blob_id()),
        lambda store: store.catalog.inode(object()),
        lambda store: store.catalog.entry(ROOT, object()),
        lambda store: store.catalog.blob([]),
    ],
)
def test_a_mistake_in_our_own_code_is_never_told_as_damage(store: Store, mistake: Any) -> None:
    with pytest.raises(sqlite3.Error) as raised:
        mistake(store)
    assert not isinstance(raised.value, ZipfsError)


@pytest.mark.parametrize("error", [TypeError("ours"), ValueError("ours"), sqlite3.ProgrammingError("ours")], ids=repr)
def test_a_mistake_inside_a_transaction_comes_out_as_it_is(store: Store, error: Exception) -> None:
    """And what was written before it is undone."""
    inode = served_inode(store, b"a/one")

    def change() -> None:
        with store.transaction() as txn:
            txn.put_inode(replace(inode, mode=0o600))
            raise error

    with pytest.raises(type(error), match="ours") as raised:
        change()
    assert raised.value is error
    assert served_inode(store, b"a/one") == inode
    assert problems(store) == []


def test_a_connection_closed_inside_a_transaction_is_a_mistake_of_ours(path: Path) -> None:
    def change(store: Store) -> None:
        with store.transaction() as txn:
            txn.put_inode(replace(served_inode(store, b"a/one"), mode=0o600))
            store.catalog.close()

    with open_store(path) as store, pytest.raises(sqlite3.ProgrammingError, match="closed"):
        change(store)
    with open_store(path) as store:  # what was logged without a commit is applied
        assert served_inode(store, b"a/one").mode == 0o600
        assert problems(store) == []


KINDS = {
    StoreBusy: ["SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_RECOVERY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"],
    NotWritable: ["SQLITE_READONLY", "SQLITE_READONLY_DBMOVED", "SQLITE_READONLY_DIRECTORY", "SQLITE_PERM"],
    NoSpace: [
        "SQLITE_FULL",
        "SQLITE_IOERR_WRITE",
        "SQLITE_IOERR_FSYNC",
        "SQLITE_IOERR_SHMSIZE",
        "SQLITE_IOERR_TRUNCATE",
    ],
    CatalogUnreadable: ["SQLITE_IOERR", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ", "SQLITE_CANTOPEN"],
    CatalogDamaged: ["SQLITE_CORRUPT", "SQLITE_CORRUPT_INDEX", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT"],
    Stopped: ["SQLITE_INTERRUPT"],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
@pytest.mark.parametrize("translation", [database.translated, database.translated_write])
def test_every_error_of_sqlite_is_told_by_its_kind(
    kind: type[Exception], name: str, translation: Any, tmp_path: Path
) -> None:
    error = sqlite3.DatabaseError("as SQLite says it")
    error.sqlite_errorname = name
    with pytest.raises(kind) as raised, translation(tmp_path / "catalog.db"):
        raise error
    assert type(raised.value) is kind
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("kind", [sqlite3.IntegrityError, sqlite3.DataError])
def test_what_contradicts_the_schema_is_refused_when_written_and_damage_when_read(
    kind: type[sqlite3.Error], tmp_path: Path
) -> None:
    with pytest.raises(Refused), database.translated_write(tmp_path / "catalog.db"):
        raise kind("constraint failed")
    with pytest.raises(CatalogDamaged), database.translated(tmp_path / "catalog.db"):
        raise kind("constraint failed")


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.ProgrammingError("closed"),
        sqlite3.InterfaceError("misuse"),
        sqlite3.NotSupportedError("no"),
        TypeError("x"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("translation", [database.translated, database.translated_write])
def test_a_mistake_keeps_its_type(error: Exception, translation: Any, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, translation(tmp_path / "catalog.db"):
        raise error
    assert raised.value is error


def test_a_catalog_that_became_read_only_says_so(store: Store) -> None:
    """Not that the file is not there, nor that the catalog is damaged."""
    sql(store.catalog, "PRAGMA query_only = ON")  # for SQLite the same as a file system that was remounted
    with pytest.raises(NotWritable, match="read-only") as raised, store.transaction() as txn:
        txn.put_inode(served_inode(store, b"a/one"))
    assert raised.value.errno == errno.EROFS
    assert "rebuild" not in str(raised.value)


def begin_a_transaction(store: Store) -> None:
    with store.transaction() as txn:
        txn.put_inode(served_inode(store, b"a/one"))


@pytest.mark.parametrize("change", [Store.reserve_inode_id, Store.reserve_blob_id, begin_a_transaction])
def test_a_store_that_cannot_be_written_answers_with_erofs(path: Path, change: Callable[[Store], object]) -> None:
    with open_store(path, read_only=True) as store:
        with pytest.raises(NotWritable) as raised:
            change(store)
        assert raised.value.errno == errno.EROFS
        assert contents(path) == FILES


def test_whoever_waits_for_the_catalog_stops_when_asked(
    path: Path, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    with open_store(path, stop=stop) as store:
        threading.Timer(0.3, stop.set).start()
        began_s = time.monotonic()
        with pytest.raises(Stopped), store.transaction():
            pass
        assert time.monotonic() - began_s < database.BUSY_TIMEOUT_S / 4
        assert contents(path) == FILES
        monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.3)
    with open_store(path) as store, pytest.raises(StoreBusy), store.transaction():
        pass


def test_whoever_waits_for_the_catalog_gets_it_when_it_is_free(path: Path, other: sqlite3.Connection) -> None:
    with open_store(path) as store:
        threading.Timer(3 * database.BUSY_SLICE_S, lambda: other.execute("ROLLBACK")).start()
        assert store.reserve_blob_id() > 0
