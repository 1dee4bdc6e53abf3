"""What of a change by others the kernel is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pyfuse3
import pytest
import trio

from zipfs.mount import invalidator
from zipfs.mount.change_log import ChangeLog
from zipfs.mount.invalidator import Invalidator, _Told, _told
from zipfs.store.catalog.log_record import Changes, Record
from zipfs.store.objects.values import ROOT, Area, Entry, Inode, InodeId, Kind, PackName, State
from zipfs.store.store import open_store

_PATIENCE_S = 60.0


def _inode(number: int, kind: Kind) -> Inode:
    state = State.STORED if kind is Kind.FILE else State.NONE
    return Inode(InodeId(number), kind, state, 0o755, 0, 0, 0, 0, 0, b"aim" if kind is Kind.SYMLINK else None)


def _record(changes: Changes) -> Record:
    return Record(7, 0, changes, 0)


def test_names_of_files_and_removed_names_are_told() -> None:
    changes = Changes()
    for number, kind in ((10, Kind.FILE), (11, Kind.SYMLINK), (12, Kind.DIRECTORY)):
        changes.inodes[InodeId(number)] = _inode(number, kind)
        changes.entries[ROOT, kind.value.encode()] = Entry(ROOT, kind.value.encode(), InodeId(number), Area.SERVED)
    changes.entries[ROOT, b"gone"] = None
    changes.inodes[InodeId(13)] = None
    told = _told(_record(changes))
    assert told.seq == 7
    assert told.names == [(ROOT, b"file"), (ROOT, b"symlink"), (ROOT, b"gone")]
    assert told.unsure == []
    assert told.inodes == [10, 11, 12, 13]
    assert not told.packs


def test_what_a_record_does_not_say_is_asked_of_the_catalog() -> None:
    changes = Changes()
    changes.entries[ROOT, b"linked"] = Entry(ROOT, b"linked", InodeId(20), Area.SERVED)
    changes.entries[ROOT, b"dropped"] = Entry(ROOT, b"dropped", InodeId(21), Area.SERVED)
    changes.inodes[InodeId(21)] = None
    changes.packs[PackName(bytes(16))] = False
    told = _told(_record(changes))
    assert told.names == []
    assert told.unsure == [(ROOT, b"linked", 20), (ROOT, b"dropped", 21)]
    assert told.packs


def test_nothing_more_is_told_once_the_mount_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who still tells while libfuse frees the connection uses memory that is gone."""
    first, closed = threading.Event(), threading.Event()
    told_names: list[bytes] = []

    def tell(number: int, name: bytes) -> None:
        told_names.append(name)
        first.set()
        assert closed.wait(_PATIENCE_S)

    monkeypatch.setattr(pyfuse3, "invalidate_entry", tell)
    monkeypatch.setattr(invalidator, "_JOIN_S", 0.0)

    async def end_while_telling(followed: Invalidator) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(followed.follow)
            await trio.to_thread.run_sync(first.wait, _PATIENCE_S)
            nursery.cancel_scope.cancel()

    with open_store(tmp_path / "store", create=True) as store:
        changes = ChangeLog(store)
        followed = Invalidator(store, changes)
        followed._queue.put(_Told(7, [(ROOT, b"a"), (ROOT, b"b")], [], [], packs=False))
        followed._queue.put(_Told(8, [(ROOT, b"c")], [], [], packs=False))
        trio.run(end_while_telling, followed)
        closed.set()
        followed._thread.join(_PATIENCE_S)
        changes.close()
    assert not followed._thread.is_alive()
    assert told_names == [b"a"]
