"""Writing to the spool by who must not wait: done by a copy of the bytes, or left to a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stores import create_served
from zipfs.errors import NoSpace
from zipfs.ingest.spool import WRITING_MODE, Spool
from zipfs.store.disk.page_cache import PageCache
from zipfs.store.frames.overlay import Older, claim_holes
from zipfs.store.objects.values import Inode
from zipfs.store.store import Store, open_store

OLDER_NBYTES = 8192


class _Zeros:
    """An older version."""

    nbytes = OLDER_NBYTES

    def read(self, offset: int, nbytes: int) -> bytes:
        return bytes(nbytes)


@dataclass(frozen=True, slots=True)
class Case:
    store: Store
    inode: Inode
    path: Path

    def spool(self, reserve_nbytes: int = 0) -> Spool:
        return Spool(self.store, reserve_nbytes)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """A file that is open content; the kernel takes whatever is written."""
    monkeypatch.setattr(PageCache, "takes", lambda cache, nbytes: True)
    with open_store(tmp_path / "store", create=True) as store:
        inode = create_served(store, b"file", b"content")
        yield Case(store, inode, store.spool_path(inode))


def test_what_takes_but_a_copy_is_done(case: Case) -> None:
    spool = case.spool()
    spool.acquire(case.inode, writing=True)
    assert spool.write_at_once(case.inode, 3, b"TEXT more")
    assert spool.write_at_once(case.inode, 12, memoryview(b"!"))
    assert case.path.read_bytes() == b"conTEXT more!"
    assert case.path.stat().st_mode & WRITING_MODE
    spool.release(case.inode, writing=True)
    assert stat.S_IMODE(case.path.stat().st_mode) == 0o600


def test_what_would_wait_is_left(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PageCache, "takes", lambda cache, nbytes: False)
    spool = case.spool()
    spool.acquire(case.inode, writing=True)
    assert not spool.write_at_once(case.inode, 0, b"TEXT")
    assert case.path.read_bytes() == b"content"
    spool.release(case.inode, writing=True)


def test_what_covers_an_older_version_is_left(case: Case) -> None:
    """Its edges may have to be decoded."""
    spool = case.spool()
    with case.path.open("r+b") as file:
        claim_holes(file.fileno())
    spool.acquire(case.inode, writing=True, open_older=lambda: Older(_Zeros()))
    assert not spool.write_at_once(case.inode, OLDER_NBYTES - 1, b"xy")
    assert case.path.read_bytes() == b"content"
    assert spool.write_at_once(case.inode, OLDER_NBYTES, b"xy")
    assert os.stat(case.path).st_size == OLDER_NBYTES + 2
    spool.release(case.inode, writing=True)


def test_a_disk_that_is_full_is_told(case: Case) -> None:
    spool = case.spool(reserve_nbytes=1 << 60)
    spool.acquire(case.inode, writing=True)
    with pytest.raises(NoSpace):
        spool.write_at_once(case.inode, 0, b"TEXT")
    assert case.path.read_bytes() == b"content"
    spool.release(case.inode, writing=True)
