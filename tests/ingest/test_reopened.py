"""Files that are opened for writing again while they wait to be compressed, or are."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.support.stores import Listener, compress, contents, noise, open_again, put_file, served_inode
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import queued, seal_everything
from zipfs.store.namespace import writing
from zipfs.store.objects.values import State
from zipfs.store.store import open_store

DATA = noise(300_001)


def test_what_was_cut_off_since_the_queue_was_listed_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Less shows through it than its row said: it is written to, and comes back into the queue."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", DATA)
        open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        seal_everything(store)
        listed = list(store.catalog.inodes_in(State.SEALED))
        assert [inode.layout_sum != 0 for inode in listed] == [True]
        inode = open_again(store, listed[0], under_ingest=False, emptied=False)
        os.truncate(store.spool_path(inode), 5000)
        with store.transaction() as txn:
            writing.clip(txn, inode.id, 5000)
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
            patched.setattr(type(store.catalog), "inodes_in", lambda self, state: listed)
            assert list(queued(store)) == []
        assert caplog.records == []
        compress(store)
    assert contents(tmp_path / "store") == {b"file": DATA[:5000]}


def test_what_changed_under_the_worker_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was opened for writing after its content was read, and before that was stored."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", DATA)
        open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        seal_everything(store)
        (source,) = queued(store)
        source.open()
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        os.truncate(store.spool_path(inode), 5000)
        with store.transaction() as txn:
            writing.clip(txn, inode.id, 5000)
        listener = Listener()
        pipeline = Pipeline(store, listener)
        with caplog.at_level(logging.WARNING):
            pipeline.run([source])
        pipeline.close()
        assert (listener.failures, listener.files, caplog.records) == ([], [], [])
        compress(store)
    assert contents(tmp_path / "store") == {b"file": DATA[:5000]}
