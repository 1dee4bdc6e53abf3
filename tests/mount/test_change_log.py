"""What a change does on which thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from tests.support.stores import copy_in, noise
from zipfs.mount import change_log as module
from zipfs.mount.change_log import ChangeLog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance.remove import free_spool
from zipfs.store.namespace import ingest_side
from zipfs.store.objects.values import INGEST_ROOT, Inode
from zipfs.store.store import Store, open_store
from zipfs.vfs.change import Change


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
        assert store.spool_path(inode.id).exists()
        change_log = ChangeLog(store)
        trio.run(change_log.make, remove)
        assert not store.spool_path(inode.id).exists()
        assert change_log.unexamined == {INGEST_ROOT}
        assert change_log.something_pending.is_set()
        change_log.close()
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
