"""Which set-id bits go; `tests/mount/test_set_ids.py` compares with a disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import ROOT, Inode, Kind
from zipfs.store.store import open_store
from zipfs.vfs.set_ids import lost_set_ids

OWNER, GROUP, NOBODY_PID = 1000, 77, 0


def _made(tmp_path: Path, kind: Kind, mode: int) -> Inode:
    event = Event.CREATE_SERVED if kind is Kind.FILE else Event.MAKE_SERVED
    with open_store(tmp_path / "store", create=True) as store, store.transaction() as txn:
        return tree.make(txn, ROOT, b"name", kind, event, mode, OWNER, GROUP)


@pytest.mark.parametrize(
    ("mode", "by_root", "by_a_member", "by_another"),
    [
        (0o755, 0, 0, 0),
        (0o4644, stat.S_ISUID, stat.S_ISUID, stat.S_ISUID),
        (0o6755, stat.S_ISUID | stat.S_ISGID, stat.S_ISUID | stat.S_ISGID, stat.S_ISUID | stat.S_ISGID),
        (0o2644, 0, 0, stat.S_ISGID),
    ],
)
def test_bits_go_by_who_asks(tmp_path: Path, mode: int, by_root: int, by_a_member: int, by_another: int) -> None:
    inode = _made(tmp_path, Kind.FILE, mode)
    assert lost_set_ids(inode, 0, 0, NOBODY_PID) == by_root
    assert lost_set_ids(inode, OWNER, GROUP, NOBODY_PID) == by_a_member
    assert lost_set_ids(inode, OWNER, GROUP + 1, NOBODY_PID) == by_another


def test_directories_keep_theirs(tmp_path: Path) -> None:
    assert lost_set_ids(_made(tmp_path, Kind.DIRECTORY, 0o2755), OWNER, GROUP + 1, os.getpid()) == 0
