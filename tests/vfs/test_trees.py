"""What may be done in the served tree and below `ingest/`, and what it brings about, without a mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.stores import compress, copy_in, ingest_directory, noise, pending_names, problems, served_inode
from zipfs.errors import (
    AlreadyExists,
    CrossesTrees,
    Forbidden,
    Gone,
    InUse,
    NoAttribute,
    NotFound,
    NotSupported,
    PathError,
    ReadOnly,
)
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.spool import Spool, SpoolFile
from zipfs.metrics.counters import Counters
from zipfs.reading import Reader, open_content
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance.remove import free_spool
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Area, Inode, InodeId, Kind, State
from zipfs.store.store import Store, open_store
from zipfs.vfs.change import Change, DropXattr, PutXattr, SetAttributes, keep
from zipfs.vfs.ingest_tree import IngestTree
from zipfs.vfs.lookup import Lookup
from zipfs.vfs.open_files import OpenFile, OpenFiles, Unlinked
from zipfs.vfs.place import Place
from zipfs.vfs.refused_copies import RefusedCopies
from zipfs.vfs.served_tree import ServedTree
from zipfs.vfs.trees import Name, NewInode, RenameFlags, same_tree
from zipfs.vfs.writable_files import WritableFiles

DIRECTORY = NewInode(Kind.DIRECTORY, 0o755, 0, 0)
FILE = NewInode(Kind.FILE, 0o644, 0, 0)
PLAIN = RenameFlags()
INGEST = Place(INGEST_ROOT, True)


@dataclass(frozen=True, slots=True)
class House:
    """A store with both trees."""

    store: Store
    spool: Spool
    open_files: OpenFiles
    names: Lookup
    served: ServedTree
    ingest: IngestTree
    files: WritableFiles

    def make(self, work: Callable[[Transaction], Change]) -> Change:
        with self.store.transaction() as txn:
            return work(txn)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_store(tmp_path / "store", create=True) as store, Reader(store.frames, Counters()) as reader:
        spool, open_files = Spool(store, 0), OpenFiles()
        names = Lookup(store, open_files, shows_ingest=True)
        served, ingest = ServedTree(None), IngestTree(store, linger_s=300.0)
        files = WritableFiles(store, spool, names, reader, open_files)
        yield House(store, spool, open_files, names, served, ingest, files)
        assert problems(store) == []


def descriptors_in(directory: Path) -> list[str]:
    """What this process has open in a directory."""
    open_now = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if os.path.lexists(one)]
    return [path for path in open_now if path.startswith(f"{directory}/")]


def served_name(name: bytes) -> Name:
    return Name(ROOT, name)


def ingest_name(name: bytes) -> Name:
    return Name(INGEST_ROOT, name)


# Both trees


def test_nothing_leads_from_one_tree_to_the_other() -> None:
    inside, outside = Place(InodeId(7), True), Place(InodeId(8), False)
    same_tree(inside, inside)
    same_tree(outside, outside)
    for one, other in ((inside, outside), (outside, inside)):
        with pytest.raises(CrossesTrees) as caught:
            same_tree(one, other)
        assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize("name", [b"user.zipfs.state", b"user.zipfs.mine"])
def test_what_a_mount_makes_up_cannot_be_set(name: bytes) -> None:
    with pytest.raises(Forbidden) as caught:
        PutXattr(name, b"x")
    assert caught.value.errno == errno.EPERM


@pytest.mark.parametrize("name", [b"security.capability", b"system.posix_acl_access", b"trusted.x"])
def test_what_would_mean_nothing_is_not_kept(name: bytes) -> None:
    with pytest.raises(NotSupported) as caught:
        PutXattr(name, b"x")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_what_is_open_and_has_no_name_keeps_what_is_changed_of_it(house: House) -> None:
    inode = copy_in(house.store, b"file", noise(100))
    unlinked = Unlinked(inode, {b"user.a": b"1"})
    keep(unlinked, SetAttributes(mode=0o600, mtime_ns=5))
    keep(unlinked, PutXattr(b"user.b", b"2"))
    keep(unlinked, DropXattr(b"user.a"))
    keep(unlinked, SetAttributes(clearing=0o200))
    assert (unlinked.inode.mode, unlinked.inode.mtime_ns) == (0o400, 5)
    assert unlinked.inode.ctime_ns >= inode.ctime_ns
    assert unlinked.xattrs == {b"user.b": b"2"}
    with pytest.raises(NoAttribute):
        keep(unlinked, DropXattr(b"user.a"))


def test_no_attributes_are_no_change() -> None:
    assert not SetAttributes()
    assert SetAttributes(uid=0)


# The served tree


def test_where_content_is_not_written_to_no_file_is_made_in_the_served_tree(house: House) -> None:
    refusing = ServedTree(RefusedCopies())
    for kind in (Kind.DIRECTORY, Kind.SYMLINK):
        refusing.check_new(served_name(b"name"), kind)
    with pytest.raises(ReadOnly) as caught:
        refusing.check_new(served_name(b"name"), Kind.FILE)
    assert caught.value.errno == errno.EROFS
    with pytest.raises(ReadOnly):
        refusing.check_writable(Place(InodeId(7), False))
    house.served.check_new(served_name(b"name"), Kind.FILE)
    house.served.check_writable(Place(InodeId(7), False))


@pytest.mark.parametrize("name", tree.RESERVED_AT_ROOT)
def test_names_that_a_mount_uses_itself_are_in_use(house: House, name: bytes) -> None:
    for work in (
        lambda txn: house.served.rmdir(txn, served_name(name)),
        lambda txn: house.served.rename(txn, served_name(name), served_name(b"other"), PLAIN),
    ):
        with pytest.raises(InUse) as caught:
            house.make(work)
        assert caught.value.errno == errno.EBUSY
    with pytest.raises(AlreadyExists):
        house.make(lambda txn: house.served.make(txn, served_name(name), DIRECTORY))


def test_removing_a_served_file_takes_its_lingering_entry(house: House) -> None:
    inode = copy_in(house.store, b"file", noise(100))
    compress(house.store)
    assert pending_names(house.store) == {(b"file", Area.LINGERING)}
    change = house.make(lambda txn: house.served.unlink(txn, served_name(b"file")))
    assert [gone.id for gone in change.gone] == [inode.id]
    assert change.beyond
    assert pending_names(house.store) == set()


def test_a_rename_that_replaces_nothing_changes_nothing(house: House) -> None:
    for name in (b"one", b"two"):
        copy_in(house.store, name, noise(100))
    seal_everything(house.store)
    with pytest.raises(AlreadyExists):
        house.make(
            lambda txn: house.served.rename(txn, served_name(b"one"), served_name(b"two"), RenameFlags(no_replace=True))
        )
    assert pending_names(house.store) == {(b"one", Area.LINGERING), (b"two", Area.LINGERING)}


def test_served_names_can_be_exchanged(house: House) -> None:
    one, two = (copy_in(house.store, name, noise(100)) for name in (b"one", b"two"))
    seal_everything(house.store)
    swap = RenameFlags(exchange=True)
    house.make(lambda txn: house.served.rename(txn, served_name(b"one"), served_name(b"two"), swap))
    assert served_inode(house.store, b"one").id == two.id
    assert served_inode(house.store, b"two").id == one.id


def test_a_change_that_the_other_tree_shows_too_goes_beyond_the_request(house: House) -> None:
    inode = copy_in(house.store, b"file", noise(100))
    seal_everything(house.store)
    readable = SetAttributes(mode=0o600)
    assert house.make(lambda txn: house.served.alter(txn, inode.id, readable)).beyond
    assert house.make(lambda txn: house.ingest.alter(txn, inode.id, readable)).beyond
    alone = copy_in(house.store, b"alone", noise(100))
    assert not house.make(lambda txn: house.ingest.alter(txn, alone.id, SetAttributes(mode=0o600))).beyond


# Below ingest/


def test_what_is_made_below_ingest_touches_its_directory_and_itself(house: House) -> None:
    change = house.make(lambda txn: house.ingest.make(txn, ingest_name(b"dir"), DIRECTORY))
    assert change.inode is not None
    assert change.touched == {INGEST_ROOT, change.inode.id}
    assert not change.beyond


def test_a_move_touches_every_directory_that_was_moved(house: House) -> None:
    """They are walked in the transaction, by the thread that makes it."""
    for path in (b"run/step-1/a", b"run/step-2/b/c"):
        copy_in(house.store, path, noise(10))
    below = {ingest_directory(house.store, path) for path in (b"run", b"run/step-1", b"run/step-2", b"run/step-2/b")}
    change = house.make(lambda txn: house.ingest.rename(txn, ingest_name(b"run"), ingest_name(b"moved"), PLAIN))
    assert change.touched == {INGEST_ROOT} | below
    assert change.beyond


def test_a_file_is_written_by_whoever_makes_it_until_he_closes_it(house: House) -> None:
    new = house.files.new_file(house.ingest, INGEST, ingest_name(b"file"), FILE)
    inode = house.make(new.make).inode
    assert inode is not None
    assert inode.id in house.spool.writing()
    opened = new.opened(1)
    assert opened.writing
    assert opened.spooled
    opened.content.close()
    assert not house.spool.writing()


def test_a_file_that_was_not_made_leaves_nothing(house: House) -> None:
    new = house.files.new_file(house.ingest, INGEST, ingest_name(b"file"), FILE)

    def make_and_fail(txn: Transaction) -> Change:
        new.make(txn)
        raise PathError("file", "the commit failed")

    with pytest.raises(PathError):
        house.make(make_and_fail)
    new.abandon()
    assert not house.spool.writing()
    assert os.listdir(house.store.path / "spool") == []


def reopen(house: House, where: Place, *, emptied: bool) -> Change:
    inode = house.names.inode(where)
    reopening = house.files.reopening(where, inode, house.store.reserve_inode_id(), emptied=emptied)
    reopening.prepare()
    change = house.make(reopening.make)
    reopening.close()
    free_spool(house.store, change.gone)
    return change


def test_a_reader_reads_what_is_written_also_after_an_open_for_writing_that_failed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no descriptor left for him when the content had become open again."""
    old = copy_in(house.store, b"file", noise(10_000))
    seal_everything(house.store)
    compress(house.store)
    where = Place(old.id, False)
    with Reader(house.store.frames, Counters()) as reader:
        content = open_content(house.store, reader, house.names.inode(where))
        reading = OpenFile(where, house.names.inode(where), content, 1, spooled=False, writing=False)
        house.open_files.add(reading)
        reopen(house, where, emptied=False)
        acquire = house.spool.acquire

        def fail(inode: Inode, *, writing: bool, **more: Any) -> SpoolFile:
            if not writing:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return acquire(inode, writing=writing, **more)

        with monkeypatch.context() as patched:
            patched.setattr(house.spool, "acquire", fail)
            with pytest.raises(OSError, match="Too many"):
                house.files.open_spooled(where, 1, writing=True)
        assert not reading.spooled
        for _ in range(2):
            opened = house.files.open_spooled(where, 1, writing=True)
            assert opened is not None
            house.spool.write(opened.inode, 5, b"new")
            assert reading.content.read(0, 10) == noise(10_000)[:5] + b"new" + noise(10_000)[8:10]
            opened.content.close()
        reading.content.close()
        house.open_files.remove(reading)
    assert not descriptors_in(house.spool.directory)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_sealed_gets_a_new_inode_below_ingest(house: House, compressed: bool) -> None:
    old = copy_in(house.store, b"file", noise(10_000))
    seal_everything(house.store)
    if compressed:
        compress(house.store)
    where = Place(old.id, True)
    assert house.files.open_spooled(where, 1, writing=True) is None
    assert not house.files.is_open_content(where)
    late = house.files.reopening(where, house.names.inode(where), house.store.reserve_inode_id(), emptied=True)
    change = reopen(house, where, emptied=False)
    assert change.inode is not None
    assert change.inode.id != old.id
    assert change.gone == []  # it is served
    opened = house.files.open_spooled(Place(change.inode.id, True), 1, writing=False)
    assert opened is not None
    assert bytes(opened.content.read(0, 20_000)) == noise(10_000)
    opened.content.close()
    late.prepare()
    assert house.make(late.make).inode is None  # another open came first
    late.abandon()
    with pytest.raises(Gone):  # and is found by who looks the name up again
        house.files.reopening(where, house.names.inode(where), house.store.reserve_inode_id(), emptied=True)


def test_raw_content_goes_with_its_last_name_when_that_gets_a_new_inode(house: House) -> None:
    """A name below `ingest/` that was left alone with sealed content kept its spool file until the next mount."""
    sealed = copy_in(house.store, b"again", noise(100))
    seal_everything(house.store)
    house.make(lambda txn: house.ingest.link(txn, sealed.id, ingest_name(b"kept")))
    house.make(lambda txn: house.served.unlink(txn, served_name(b"again")))
    assert pending_names(house.store) == {(b"kept", Area.PENDING)}
    change = reopen(house, Place(sealed.id, True), emptied=True)
    assert [inode.id for inode in change.gone] == [sealed.id]
    assert change.gone[0].state is State.SEALED


def test_a_listing_of_ingest_shows_what_waits_and_what_is_new(house: House) -> None:
    copy_in(house.store, b"done/file", noise(10))
    seal_everything(house.store)
    copy_in(house.store, b"waits/file", noise(10))
    assert house.ingest.listed([], house.store.catalog) == {b"done", b"waits"}
    assert house.ingest.lists_all(Place(ingest_directory(house.store, b"done"), True))
    assert not house.ingest.lists_all(Place(INGEST_ROOT, True))


# Looking up


def test_names_lead_from_the_served_tree_into_ingest_and_back(house: House) -> None:
    copy_in(house.store, b"dir/file", noise(10))
    root, ingest = Place(ROOT, False), Place(INGEST_ROOT, True)
    found = house.names.child(root, b"ingest")
    assert found is not None
    assert root.beside(found[0].id) == ingest
    directory = house.names.child(ingest, b"dir")
    assert directory is not None
    below = ingest.beside(directory[0].id)
    assert below.under_ingest
    for where, name, expected in ((below, b"..", ingest), (ingest, b"..", root), (below, b".", below)):
        found = house.names.child(where, name)
        assert found is not None
        assert where.beside(found[0].id) == expected
    assert set(house.names.children(ingest, [b".", b"..", b"dir", b"ingest", b"none"])) == {b".", b"..", b"dir"}
    assert house.names.at_top(root) == [b".", b"..", b"ingest"]
    assert house.names.at_top(ingest) == [b".", b".."]


def test_what_was_unlinked_here_is_not_there_and_what_others_removed_is_gone(house: House) -> None:
    mine, theirs = (copy_in(house.store, name, noise(10)) for name in (b"mine", b"theirs"))
    house.names.removed(house.make(lambda txn: house.ingest.unlink(txn, ingest_name(b"mine"))).gone)
    house.make(lambda txn: house.ingest.unlink(txn, ingest_name(b"theirs")))
    with pytest.raises(NotFound) as caught:
        house.names.inode(Place(mine.id, True))
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(Gone) as caught:
        house.names.inode(Place(theirs.id, True))
    assert caught.value.errno == errno.ESTALE


def test_an_open_file_that_was_unlinked_has_its_attributes_and_no_names(house: House) -> None:
    inode = copy_in(house.store, b"file", noise(10))
    where = Place(inode.id, True)
    opened = house.files.open_spooled(where, 1, writing=False)
    assert opened is not None
    house.open_files.add(opened)
    house.make(lambda txn: house.ingest.alter(txn, inode.id, PutXattr(b"user.a", b"1")))
    house.open_files.remember(house.store.catalog, INGEST_ROOT, b"file")
    house.make(lambda txn: house.ingest.unlink(txn, ingest_name(b"file")))
    found, names, spooled = house.names.stat(where)
    assert (found.id, names) == (inode.id, 0)
    assert spooled is not None
    assert spooled.st_size == 10
    assert house.names.xattrs(where) == {b"user.a": b"1"}
    house.open_files.remove(opened)
    opened.content.close()
    assert house.names.xattrs(where) == {}
