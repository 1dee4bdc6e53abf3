"""Opens that fail: with the right number, and with nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyfuse3
import pytest
import trio

from tests.support.stores import copy_in, noise, put_file, remove, served_inode
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.spool import Spool
from zipfs.metrics.counters import Counters
from zipfs.mount import reading_operations
from zipfs.mount.change_log import ChangeLog
from zipfs.mount.logs import Log
from zipfs.mount.numbers import number_of
from zipfs.mount.reading_operations import ReadingOperations
from zipfs.mount.virtual import Virtual
from zipfs.mount.writing_operations import WritingOperations
from zipfs.reading import Content, Reader, open_content
from zipfs.store.objects.values import INGEST_ROOT, Inode
from zipfs.store.store import Store, open_store
from zipfs.vfs.place import Place
from zipfs.vfs.visibility import Requester


def virtual(store: Store) -> Virtual:
    async def status(who: Requester) -> bytes:
        return b""

    return Virtual(status, Log(store.path / "log" / "zipfs.log"), Counters())


def too_many(*_: object, **__: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def open_errno(operations: ReadingOperations, where: Place) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        trio.run(operations.open, number_of(where), pyfuse3.FlagT(os.O_RDONLY), pyfuse3.RequestContext())
    return int(caught.value.errno)


def open_to_replace(operations: WritingOperations, where: Place) -> pyfuse3.FileInfo:
    flags = pyfuse3.FlagT(os.O_WRONLY | os.O_TRUNC)
    return trio.run(operations.open, number_of(where), flags, pyfuse3.RequestContext())


def test_a_file_that_others_remove_within_an_open_is_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOENT would tell the reader of a file that was replaced that there is none."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", noise(1000))
        inode = served_inode(store, b"file")

        def late(opened: Store, reader: Reader, found: Inode) -> Content:
            remove(store, b"file")
            return open_content(opened, reader, found)

        monkeypatch.setattr(reading_operations, "open_content", late)
        operations = ReadingOperations(store, virtual(store), Counters())
        assert open_errno(operations, Place(inode.id, False)) == errno.ESTALE
        operations.reader.close()


def test_an_open_beyond_the_limit_of_descriptors_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        inode = copy_in(store, b"file", noise(1000))
        operations = ReadingOperations(store, virtual(store), Counters())
        with monkeypatch.context() as full:
            full.setattr(os, "open", too_many)
            assert open_errno(operations, Place(inode.id, False)) == errno.EMFILE
        operations.reader.close()


def test_an_open_that_gets_no_descriptor_is_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        inode = copy_in(store, b"file", noise(1000))
        changes, spool = ChangeLog(store), Spool(store, 0)
        operations = WritingOperations(store, changes, virtual(store), Counters(), spool, linger_s=300.0)
        with monkeypatch.context() as full:
            full.setattr(os, "open", too_many)
            with pytest.raises(OSError, match="Too many"):
                operations.files.open_spooled(Place(inode.id, True), 1, writing=True)
        assert not spool.writing()
        operations.reader.close()
        changes.close()


def test_what_is_to_be_written_anew_is_not_sealed_before_its_writer_comes_back(tmp_path: Path) -> None:
    """The open is answered ESTALE and comes again; on a busy machine that takes longer than a directory is quiet."""
    with open_store(tmp_path / "store", create=True) as store:
        inode = copy_in(store, b"file", noise(1000))
        seal_everything(store)
        changes, spool = ChangeLog(store), Spool(store, 0)
        operations = WritingOperations(store, changes, virtual(store), Counters(), spool, linger_s=300.0)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            open_to_replace(operations, Place(inode.id, True))
        assert caught.value.errno == errno.ESTALE
        entry = store.catalog.entry(INGEST_ROOT, b"file")
        assert entry is not None
        assert spool.writing() == {entry.inode_id}
        handle = open_to_replace(operations, Place(entry.inode_id, True)).fh
        trio.run(operations.release, handle)
        assert not spool.writing()
        operations.reader.close()
        changes.close()
