"""Files that are opened for writing again while they wait to be compressed, or are."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from tests.support.stores import (
    Listener,
    collect_garbage,
    compress,
    contents,
    noise,
    open_again,
    problems,
    put_file,
    served_inode,
    write_over,
)
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import queued, seal_everything
from zipfs.ingest.spool import Spool
from zipfs.reading import Reader
from zipfs.reading.content import open_older
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


def test_what_is_unchanged_of_a_large_file_is_neither_coded_nor_kept_twice(tmp_path: Path) -> None:
    content = bytearray(noise(40 << 20))
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", bytes(content))
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        before = store.catalog.content_sizes().packs_nbytes
        changed = noise(1 << 20, 9)
        write_over(store, inode, 20_000_001, changed)
        content[20_000_001 : 20_000_001 + len(changed)] = changed
        compress(store)
        inode = served_inode(store, b"file")
        assert inode.state is State.STORED
        assert inode.sha256 == hashlib.sha256(content).digest()
        assert store.catalog.content_sizes().packs_nbytes - before < 3 << 20
        assert len(store.catalog.extents(inode)) == 3
        assert problems(store) == []
    assert contents(tmp_path / "store")[b"file"] == content


def test_what_is_mostly_changed_is_stored_anew(tmp_path: Path) -> None:
    """Or the older version would be kept whole for the sake of a part of it, and one after the other."""
    content = bytearray(noise(24 << 20))
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", bytes(content))
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        content[: 16 << 20] = noise(16 << 20, 8)
        write_over(store, inode, 0, bytes(content[: 16 << 20]))
        compress(store)
        assert len(store.catalog.extents(served_inode(store, b"file"))) == 1
        collect_garbage(store)
        assert store.catalog.content_sizes().packs_nbytes < 25 << 20
        assert problems(store) == []
    assert contents(tmp_path / "store")[b"file"] == content


def test_a_truncation_whose_record_failed_is_recorded_by_the_next(tmp_path: Path) -> None:
    """The file grew again over what was cut off, and a fresh open found the older bytes there."""
    with open_store(tmp_path / "store", create=True) as store, Reader(store.frames) as reader:
        put_file(store, tmp_path, b"file", DATA)
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        spool = Spool(store, 0)
        spool.acquire(inode, writing=True, open_older=lambda: open_older(store, reader, inode))
        assert spool.truncate(inode, 1000) == 1000  # and the disk is full now, so nothing is recorded
        shown_nbytes = spool.truncate(inode, len(DATA))
        assert shown_nbytes == 1000
        with store.transaction() as txn:
            writing.clip(txn, inode.id, shown_nbytes)
        spool.clip_recorded(inode, shown_nbytes)
        assert spool.truncate(inode, len(DATA)) is None
        spool.release(inode, writing=True)
    assert contents(tmp_path / "store")[b"file"] == DATA[:1000] + bytes(len(DATA) - 1000)
