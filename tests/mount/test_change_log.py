"""What a change does on which thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from tests.support.stores import copy_in, noise
from zipfs.ingest.queue import seal_everything
from zipfs.mount import change_log as module
from zipfs.mount.change_log import ChangeLog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance.remove import free_spool
from zipfs.store.namespace import ingest_side, tree, writing
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Inode, Kind
from zipfs.store.store import Store, open_store
from zipfs.vfs.change import Change
from zipfs.vfs.served_tree import ServedTree
from zipfs.vfs.trees import Name, RenameFlags


def test_spool_files_are_deleted_on_the_thread_that_makes_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To delete one of many GiB takes long enough to be felt by every reader."""
    threads: list[int] = []

    def free(store: Store, gone: list[Inode]) -> None:
        threads.append(threading.get_ident())
        free_spool(store, gone)

    def remove(txn: Transaction) -> Change:
        gone = ingest_side.unlink(txn, INGEST_ROOT, b"file")
        assert gone is not None
        return Change(gone=[gone], touched={INGEST_ROOT})

    monkeypatch.setattr(module, "free_spool", free)
    with open_store(tmp_path / "store", create=True) as store:
        inode = copy_in(store, b"file", noise(1000))
        assert store.spool_path(inode).exists()
        change_log = ChangeLog(store)
        trio.run(change_log.make, remove)
        assert not store.spool_path(inode).exists()
        assert change_log.unexamined == {INGEST_ROOT}
        assert change_log.something_pending.is_set()
        change_log.close()
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("copied", [True, False])
def test_what_takes_the_place_of_raw_content_is_on_the_disk_before_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """A name that alone led to sealed content, opened to append: after a power cut both were gone."""
    steps: list[str] = []

    def sync(store: Store) -> None:
        steps.append("log synced")
        original_sync(store)

    def fsync(fd: int) -> None:
        steps.append(f"{Path(os.readlink(f'/proc/self/fd/{fd}')).name} synced")
        original_fsync(fd)

    def free(store: Store, gone: list[Inode]) -> None:
        steps.append("freed")
        free_spool(store, gone)

    with open_store(tmp_path / "store", create=True) as store:
        sealed = copy_in(store, b"file", noise(1000))
        seal_everything(store)
        with store.transaction() as txn:
            ingest_side.link(txn, txn.catalog.inode(sealed.id), INGEST_ROOT, b"kept")
            tree.remove_tree(txn, ROOT, b"file")
        fresh_id = store.reserve_inode_id()
        if copied:
            (store.spool_directory / str(fresh_id)).write_bytes(noise(1000))

        def supersede(txn: Transaction) -> Change:
            found = writing.supersede(txn, txn.catalog.inode(sealed.id), fresh_id, under_ingest=True, shows_older=False)
            assert found is not None
            return Change(found[0], found[1], kept_first=[found[0]])

        original_sync, original_fsync = Store.sync, os.fsync
        monkeypatch.setattr(Store, "sync", sync)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(module, "free_spool", free)
        change_log = ChangeLog(store)
        trio.run(change_log.make, supersede)
        change_log.close()
        assert not store.spool_path(sealed).exists()
    wanted = ([f"{fresh_id} synced"] if copied else []) + ["spool synced", "log synced"]
    assert [step for step in steps[: steps.index("freed")] if step in wanted] == wanted


def test_a_rename_is_on_the_disk_before_the_raw_content_of_what_it_replaces_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that replaces a file by a synced one has the old one or the new one, also after a power cut."""
    steps: list[str] = []

    def sync(store: Store) -> None:
        steps.append("log synced")

    def free(store: Store, gone: list[Inode]) -> None:
        steps.append("freed")
        free_spool(store, gone)

    with open_store(tmp_path / "store", create=True) as store:
        with store.transaction() as txn:
            old, new = (
                tree.make(txn, ROOT, name, Kind.FILE, Event.CREATE_SERVED, 0o644, 0, 0) for name in (b"file", b"new")
            )
        for inode in (old, new):
            store.spool_path(inode).write_bytes(noise(1000))
        monkeypatch.setattr(Store, "sync", sync)
        monkeypatch.setattr(module, "free_spool", free)
        served, names = ServedTree(None), (Name(ROOT, b"new"), Name(ROOT, b"file"))
        change_log = ChangeLog(store)
        trio.run(change_log.make, lambda txn: served.rename(txn, *names, RenameFlags(False, False)))
        change_log.close()
        assert (store.spool_path(old).exists(), store.spool_path(new).exists()) == (False, True)
    assert steps == ["log synced", "freed"]
