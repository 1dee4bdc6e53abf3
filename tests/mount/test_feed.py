"""What of a change by others the kernel is told."""

from __future__ import annotations

from zipfs.mount.feed import _told
from zipfs.store.record import Changes, Record
from zipfs.store.rows import ROOT, Area, Entry, Inode, InodeId, Kind, PackName, State


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
