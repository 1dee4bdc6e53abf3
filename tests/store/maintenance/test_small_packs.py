"""Small packs are merged, so that a file which grows a little every few seconds does not make a pack each time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import (
    collect_garbage,
    contents,
    make_store,
    model,
    noise,
    problems,
    put_file,
    remove,
    served_inode,
    tuned,
    weights,
)
from zipfs.errors import NoSpace, Stopped
from zipfs.reading import Reader, open_content
from zipfs.store.catalog import transaction
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance import collect
from zipfs.store.maintenance.collect import merge_small_packs
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.packs.writer import PackWriter
from zipfs.store.store import Store, open_store

BASE = weights(3000)
LINES = {f"log/{number}".encode(): noise(250, number) for number in range(12)}
MODELS = {b"base": model(BASE), **{f"tuned/{n}".encode(): model(tuned(BASE, n)) for n in range(3)}}
FILES = {**LINES, **MODELS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path, FILES)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as opened:
        yield opened


def test_a_collection_makes_one_pack_of_many_small_ones(store: Store) -> None:
    assert len(store.catalog.packs()) == len(FILES)
    with Reader(store.frames) as reader:
        opened = open_content(store, reader, served_inode(store, b"log/3"))
        done = collect_garbage(store)
        assert done.packs_merged == len(FILES)
        assert bytes(opened.read(0, 250)) == LINES[b"log/3"]
        opened.close()
    assert len(store.catalog.packs()) == 1
    assert len(list(store.packs.names())) == 1
    assert problems(store) == []
    assert contents(store.path) == FILES
    assert collect_garbage(store).packs_merged == 0


def test_merged_packs_are_found_by_a_rebuild(path: Path) -> None:
    with open_store(path) as store:
        collect_garbage(store)
    assert rebuild(path).lost == []
    assert contents(path) == FILES


def test_few_packs_stay_as_they_are(tmp_path: Path) -> None:
    path = make_store(tmp_path / "few", dict(list(LINES.items())[:7]))
    with open_store(path) as store:
        packs = store.catalog.packs()
        assert collect_garbage(store).packs_merged == 0
        assert store.catalog.packs() == packs


def test_large_packs_are_never_moved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_SMALL_NBYTES", 100)
    packs = store.catalog.packs()
    assert collect_garbage(store).packs_merged == 0
    assert store.catalog.packs() == packs


@pytest.mark.slow
def test_a_byte_is_copied_a_few_times_however_many_packs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sizes as small as these: 200 packs of one file each, merged whenever there are enough."""
    monkeypatch.setattr(collect, "_SMALLEST_NBYTES", 1 << 12)
    copied = 0
    original = PackWriter.copy_blob

    def counted(self: PackWriter, packed: PackedBlob, *arguments: object) -> object:
        nonlocal copied
        copied += packed.blob.nbytes
        return original(self, packed, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PackWriter, "copy_blob", counted)
    files = {f"log/{number}".encode(): noise(1500, number) for number in range(200)}
    with open_store(tmp_path / "store", create=True) as store:
        most = 0
        for name, content in files.items():
            put_file(store, tmp_path, name, content)
            with store.lock("pack").held("", waiting=None):
                merge_small_packs(store)
            most = max(most, len(store.catalog.packs()))
        assert most < 30
        assert copied < 6 * 1500 * len(files)
        assert problems(store) == []
    assert contents(tmp_path / "store") == files


def test_merging_keeps_what_no_file_needs_and_a_collection_does_not(store: Store) -> None:
    remove(store, b"log/5")
    with store.lock("pack").held("", waiting=None):
        assert merge_small_packs(store).packs_merged == len(FILES)
    assert problems(store) == []
    assert collect_garbage(store).blobs_dropped == 1
    assert contents(store.path) == {name: content for name, content in FILES.items() if name != b"log/5"}


def test_a_damaged_pack_is_left_and_the_others_are_merged(store: Store) -> None:
    victim = Path(store.packs.where(next(iter(store.catalog.packs()))))
    content = bytearray(victim.read_bytes())
    content[40] ^= 0xFF
    victim.write_bytes(content)
    done = collect_garbage(store)
    assert len(done.damaged) == 1
    assert done.packs_merged == len(FILES) - 1
    assert victim.exists()
    assert len(store.catalog.packs()) == 2


def test_it_stops_when_asked_and_leaves_the_store_whole(path: Path) -> None:
    with open_store(path) as store:
        packs = set(store.packs.names())

        def report(what: str, done: int, total: int) -> None:
            if what == "merging small packs":
                store.stop.set()

        with pytest.raises(Stopped), store.lock("pack").held("", waiting=None):
            merge_small_packs(store, report)
        assert set(store.packs.names()) == packs
        assert list(store.packs.unfinished()) == []
    with open_store(path) as store:
        assert problems(store) == []
    assert contents(path) == FILES


@pytest.mark.parametrize("again", [False, True], ids=["once", "also-when-looked-at"])
def test_a_pack_whose_record_stays_in_the_log_is_kept(
    again: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit fails, and so does taking the record back: whoever writes next drops the old packs for the new one."""
    failed = False
    original = transaction._commit

    def commit(catalog: Catalog, txn: Transaction) -> None:
        nonlocal failed
        if txn.changes.packs or (failed and again):
            failed = True
            sql(catalog, "ROLLBACK")  # as SQLite does by itself on a full disk
            raise NoSpace(store.path, "the disk is full")
        original(catalog, txn)

    def truncate(self: ManifestLog, segment: int, offset: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(transaction, "_commit", commit)
        patch.setattr(ManifestLog, "truncate", truncate)
        with store.lock("pack").held("", waiting=None):
            assert merge_small_packs(store).packs_merged == 0
    assert failed
    with store.transaction():
        pass
    assert len(store.catalog.packs()) == 1
    assert contents(store.path) == FILES
    collect_garbage(store)
    assert problems(store) == []
