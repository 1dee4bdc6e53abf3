"""Every pack takes the same way into a store, whoever makes it, and one that a record may name is never deleted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import (
    badly_based_family,
    collect_garbage,
    contents,
    make_store,
    noise,
    optimize_all,
    problems,
    put_file,
    remove,
)
from zipfs.errors import Damaged, NoSpace, ZipfsError
from zipfs.store.catalog import transaction
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.maintenance.collect import merge_small_packs
from zipfs.store.maintenance.repair import repair
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.publish import STEPS, Caller, NewPack, fault_points
from zipfs.store.store import Store, open_store

FAMILY = badly_based_family(20_000)
SMALL = {f"small/{number}".encode(): noise(300 + number, 40 + number) for number in range(9)}
FILES = {**FAMILY, **SMALL}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path, FILES)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as opened:
        yield opened


def _ingest(store: Store) -> None:
    put_file(store, store.path.parent / "scratch", b"new", noise(3000, 9))


def _merge(store: Store) -> None:
    with store.lock("pack").held("", waiting=None):
        merge_small_packs(store)


def _remove_one(store: Store) -> None:
    remove(store, b"small/1")


def _damage_indexes(store: Store) -> None:
    for name in store.catalog.packs():
        pack = Path(store.packs.where(name))
        content = bytearray(pack.read_bytes())
        content[-45] ^= 0xFF  # in the index, before the trailer
        pack.write_bytes(bytes(content))


def _repair(store: Store) -> None:
    with store.lock("pack").held("", waiting=None):
        repair(store, problems(store))


@dataclass(frozen=True, slots=True)
class Publisher:
    """Something that makes new packs, and what it changes of `FILES`."""

    caller: Caller
    act: Callable[[Store], object]
    before: Callable[[Store], object] | None = None
    added: Mapping[bytes, bytes] = field(default_factory=dict)
    removed: frozenset[bytes] = frozenset()


PUBLISHERS = {
    "ingest": Publisher("ingest", _ingest, added={b"new": noise(3000, 9)}),
    "rebase": Publisher("optimize", optimize_all),
    "merge": Publisher("gc", _merge),
    "collect": Publisher("gc", collect_garbage, _remove_one, removed=frozenset({b"small/1"})),
    "repair": Publisher("repair", _repair, _damage_indexes),
}


def assert_nothing_is_lost(store: Store, publisher: Publisher) -> None:
    """What was there before is there, and what was added is there or not at all."""
    found = contents(store.path)
    for name, content in FILES.items():
        assert found.get(name) == content or name in publisher.removed, name
    assert {name: found[name] for name in found if name not in FILES} in ({}, publisher.added)


@pytest.mark.parametrize("name", PUBLISHERS)
def test_every_pack_takes_the_steps_of_the_table(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = PUBLISHERS[name]
    if publisher.before is not None:
        publisher.before(store)
    expected = fault_points(publisher.caller)
    passed: list[str] = []
    monkeypatch.setattr(faults, "point", passed.append)
    publisher.act(store)
    on_the_way = [point for point in passed[passed.index(expected[0]) :] if point in expected]
    assert on_the_way[: len(expected)] == list(expected)
    assert len(on_the_way) % len(expected) == 0
    assert_nothing_is_lost(store, publisher)


def test_the_table_names_each_step_and_each_fault_point_once() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)
    points = fault_points("ingest")
    assert len(set(points)) == len(points)
    assert all(point.startswith("ingest.") for point in points)


@contextmanager
def failing_commits(times: int) -> Iterator[list[str]]:
    """Have `times` commits in a row fail from the first one that adds a pack on, each with its record left in the log.

    Yields a list with an item for each commit that failed.
    """
    failed: list[str] = []
    original = transaction._commit

    def commit(catalog: Catalog, txn: Transaction) -> None:
        if (True in txn.changes.packs.values() or failed) and len(failed) < times:
            failed.append("commit")
            sql(catalog, "ROLLBACK")  # as SQLite does by itself on a full disk
            raise NoSpace(catalog.path.parent, "the disk is full")
        original(catalog, txn)

    def truncate(self: ManifestLog, segment: int, offset: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "_commit", commit)
        patch.setattr(ManifestLog, "truncate", truncate)
        yield failed


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 1000], ids=["once", "also-when-looked-at", "from-then-on"])
@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_pack_whose_record_stays_in_the_log_is_kept(name: str, times: int, store: Store) -> None:
    """Whoever writes next adds the pack, and drops those that it takes the place of."""
    publisher = PUBLISHERS[name]
    if publisher.before is not None:
        publisher.before(store)
    with failing_commits(times) as failed, suppress(ZipfsError):
        publisher.act(store)
    assert failed
    with store.transaction():
        pass  # applies what is in the log
    assert_nothing_is_lost(store, publisher)
    publisher.act(store)
    collect_garbage(store)
    assert problems(store) == []
    assert_nothing_is_lost(store, publisher)
    assert set(store.packs.names()) == set(store.catalog.packs())


def _write_blob(pack: NewPack, store: Store) -> None:
    pack.writer.begin_blob()
    pack.writer.append_frame(bytes(100))
    pack.writer.end_blob(store.reserve_blob_id(), 100, bytes(16), "", (), None)


def _accept(blobs: object) -> None:
    return


def _refuse(blobs: object) -> None:
    raise Damaged("blob 7", "decodes to other bytes")


def _fail_to_write(txn: Transaction) -> None:
    raise ZipfsError("what was to be written contradicts itself")


@pytest.mark.parametrize(("verify", "write"), [(_refuse, _accept), (_accept, _fail_to_write)], ids=["verify", "write"])
def test_a_pack_that_is_not_published_leaves_no_trace(
    verify: Callable[[object], None], write: Callable[[Transaction], None], store: Store
) -> None:
    packs = set(store.packs.names())
    pack = NewPack(store, "ingest")
    _write_blob(pack, store)
    with pytest.raises(ZipfsError):
        pack.publish(verify, write)
    pack.give_up()
    assert set(store.packs.names()) == set(store.catalog.packs()) == packs
    assert list(store.packs.unfinished()) == []


def test_a_pack_that_is_left_before_it_was_published_leaves_no_trace(store: Store) -> None:
    with NewPack(store, "ingest") as pack:
        _write_blob(pack, store)
        assert len(list(store.packs.unfinished())) == 1
    assert list(store.packs.unfinished()) == []


def test_what_is_verified_is_all_that_is_published(store: Store) -> None:
    verified: list[PackedBlob] = []
    with NewPack(store, "ingest") as pack:
        _write_blob(pack, store)
        _write_blob(pack, store)
        pack.writer.rewind(1)
        published = pack.publish(verified.extend, _accept)
        pack.give_up()
    assert verified == list(published.blobs)
    assert store.catalog.packs()[published.name] == published.nbytes
    assert published.name in set(store.packs.names())
