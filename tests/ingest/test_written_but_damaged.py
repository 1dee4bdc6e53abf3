"""Damaged or hostile spool files and rows: what was written in place beside them goes on, nothing else is touched."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.stores import noise, open_again, problems, put_file, served_inode
from zipfs.errors import CatalogDamaged, Damaged
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.seal_written import seal_written
from zipfs.ingest.spool import Spool, clear_spool
from zipfs.store.frames.overlay import StoredBytes
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import ROOT, Extent, Inode, Kind, State
from zipfs.store.store import Store, open_store

DATA = noise(300_001)


def make(store: Store, name: bytes, content: bytes | None = None) -> Inode:
    """A file that is made in the served tree; without content, as mknod(2) leaves it."""
    with store.transaction() as txn:
        inode = tree.make(txn, ROOT, name, Kind.FILE, Event.CREATE_SERVED, 0o644, 0, 0)
    if content is not None:
        store.spool_path(inode).write_bytes(content)
    return inode


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that is not the store's."""
    path = tmp_path / "victim"
    path.write_bytes(b"x")
    os.utime(path, ns=(1, 1))
    return path


def test_a_seal_makes_no_file_where_a_link_leads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        inode = make(store, b"file")
        store.spool_path(inode).symlink_to(tmp_path / "elsewhere")
        assert seal_written(store, [inode]) == []
        assert "not a regular file" in caplog.text
    assert not (tmp_path / "elsewhere").exists()


def test_no_time_is_set_where_a_link_leads(tmp_path: Path, victim: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        inode = make(store, b"file")
        store.spool_path(inode).symlink_to(victim)
        with pytest.raises(Damaged):
            Spool(store, 0).set_mtime(inode, 5)
    assert victim.stat().st_mtime_ns == 1


def test_what_is_opened_for_writing_sets_no_time_where_a_link_leads(tmp_path: Path, victim: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        (sealed,) = seal_written(store, [make(store, b"file", DATA)])
        store.spool_path(sealed).unlink()
        store.spool_path(sealed).symlink_to(victim)
        with pytest.raises(Damaged):
            open_again(store, sealed, under_ingest=False, emptied=False)
    assert victim.stat().st_mtime_ns == 1


def test_the_time_of_a_file_without_a_spool_file_can_be_set(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        inode = make(store, b"file")
        Spool(store, 0).set_mtime(inode, 5)
        (sealed,) = seal_written(store, [inode])
        assert (sealed.nbytes, sealed.mtime_ns) == (0, 5)


def test_what_lost_its_spool_file_is_sealed_as_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was changed of a stored file is gone: it does not become an empty one. Others are sealed."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", DATA)
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        store.spool_path(inode).unlink()
        other = make(store, b"other", b"other")
        assert [sealed.id for sealed in seal_written(store, [inode, other])] == [other.id]
        assert "what was changed of a file with it" in caplog.text
        assert served_inode(store, b"file").nbytes == len(DATA)
        assert [problem.paths for problem in problems(store)] == [("file",)]


def test_sealed_content_that_is_missing_is_not_opened_as_an_empty_file(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        (sealed,) = seal_written(store, [make(store, b"file", DATA)])
        store.spool_path(sealed).unlink()
        with pytest.raises(Damaged, match="is missing"):
            open_again(store, sealed, under_ingest=False, emptied=False)
        assert served_inode(store, b"file") == sealed


def test_a_damaged_row_keeps_no_other_file_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither when a mount begins, nor when it seals."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"cut", DATA)
        damaged, other = make(store, b"damaged", DATA), make(store, b"other", b"other")
        cut = open_again(store, served_inode(store, b"cut"), under_ingest=False, emptied=False)
        os.truncate(store.spool_path(cut), 5000)
    with closing(sqlite3.connect(tmp_path / "store" / "catalog.db")) as database, database:
        database.execute("UPDATE inodes SET mode = mode + 1 WHERE id = ?", (damaged.id,))
    with open_store(tmp_path / "store") as store:
        clear_spool(store)
        assert store.catalog.extents(store.catalog.inode(cut.id))[-1].nbytes == 5000
        seal_everything(store)
        assert {store.catalog.inode(one.id).state for one in (cut, other)} == {State.SEALED}
        assert f"row of inode {damaged.id}" in caplog.text
        assert store.spool_path(damaged).exists()


@pytest.mark.parametrize(
    "extents",
    [
        [(0, 1000), (5000, 1000)],
        [(0, 1000), (500, 1000)],
        [(10, 1000)],
        [(0, 0), (0, 1000)],
    ],
    ids=["gap", "overlap", "late", "empty"],
)
def test_extents_that_do_not_follow_each_other_are_damage(tmp_path: Path, extents: list[tuple[int, int]]) -> None:
    """Whoever reads them would look for good for what none of them holds."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", DATA)
        (whole,) = store.catalog.extents(served_inode(store, b"file"))
        bad = [Extent(offset, nbytes, whole.blob_id, 0) for offset, nbytes in extents]
        with pytest.raises(CatalogDamaged, match="does not follow"):
            StoredBytes(store.frames, bad, {})
