"""One file, directory or family that cannot be dealt with is told, and keeps no other waiting."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import (
    badly_based_family,
    compress,
    contents,
    copy_in,
    import_path,
    make_store,
    model,
    noise,
    optimize_all,
    problems,
    tuned,
    weights,
    write_tree,
)
from zipfs.errors import CatalogDamaged, Damaged, NotWritable, PathError
from zipfs.formats import Layout, registry
from zipfs.ingest import plan, queue, source
from zipfs.ingest.execute import PackExecution
from zipfs.ingest.inspect import Inspector
from zipfs.ingest.optimize import rebase
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.seal import seal
from zipfs.ingest.seal_plan import Pending
from zipfs.ingest.source import Source
from zipfs.store.disk.files import read_at
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import State
from zipfs.store.store import Store, open_store

FILES = {b"m/a": noise(40_000, 1), b"m/bad": noise(50_000, 2), b"m/c": noise(60_000, 3), b"n/d": noise(70_000, 4)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


def copy_all_in(store: Store) -> None:
    for name, content in FILES.items():
        copy_in(store, name, content)


def source_of(owner: Inspector | PackExecution, arguments: Sequence[object]) -> bytes:
    """The name of the source that a method of `owner` was called for."""
    if isinstance(owner, Inspector):
        return owner.source.name
    return next(one.name for one in arguments if isinstance(one, Source))


def forget_failures(store: Store) -> None:
    """What failed is not tried again at once."""
    with store.transaction() as txn:
        for inode_id in store.catalog.failures():
            txn.clear_failure(inode_id)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method"), [(Inspector, "piece"), (Inspector, "features"), (PackExecution, "carry_out")]
)
@pytest.mark.parametrize(
    "error",
    [ValueError("negative shift count"), MemoryError(), Damaged("a base", "cannot be read"), PathError("x", "odd")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_goes_wrong_with_a_file_is_its_failure_alone(
    owner: type, method: str, error: Exception, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_all_in(store)
    original = getattr(owner, method)

    def spoiled(self: Inspector | PackExecution, *arguments: object) -> object:
        if source_of(self, arguments) == b"bad":
            raise error
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, spoiled)
        listener = compress(store)
    assert len(listener.failures) == 1
    assert "bad" in listener.failures[0]
    assert [attempts for _, attempts, _ in store.catalog.failures().values()] == [1]
    assert [inode.nbytes for inode in store.catalog.inodes_in(State.SEALED)] == [50_000]
    assert contents(store.path) == FILES
    assert problems(store) == []
    assert compress(store).files == []  # not before its time
    forget_failures(store)
    compress(store)
    assert store.catalog.inodes_in(State.SEALED) == []
    assert contents(store.path) == FILES


@pytest.mark.parametrize("name", ["search_partial_matches", "choose_whole_base"])
@pytest.mark.parametrize("error", [IndexError("out of bounds"), MemoryError()], ids=lambda error: type(error).__name__)
def test_a_bug_in_the_search_for_a_base_costs_size_and_not_the_file(
    name: str, error: Exception, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw = weights(40_000, 7)
    files = {b"m/base": model(raw), b"m/bad": model(tuned(raw[4000:])), b"m/notes": b"text"}
    original = getattr(plan, name)

    def spoiled(*arguments: object, **options: object) -> object:
        if len(raw[4000:]) in arguments:
            raise error
        return original(*arguments, **options)

    for file, content in files.items():
        copy_in(store, file, content)
    with monkeypatch.context() as patch:
        patch.setattr(plan, name, spoiled)
        listener = compress(store)
    assert listener.failures == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "m/bad is stored as plain bytes, because of a bug in ZipFS"
    ]
    assert contents(store.path) == files
    assert store.catalog.inodes_in(State.SEALED) == []
    assert problems(store) == []


def test_damage_that_is_met_while_a_file_is_coded_standalone_is_its_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coding it without a base, which helps where a base is damaged, is not tried again and again."""
    copy_all_in(store)
    original = Source.check_wanted
    asked = 0

    def damaged(self: Source) -> None:
        nonlocal asked
        asked += self.name == b"bad"
        if asked > 1 and self.name == b"bad":
            raise CatalogDamaged("a row does not match its checksum")
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Source, "check_wanted", damaged)
        listener = compress(store)
    assert len(listener.failures) == 1
    assert "a row does not match" in listener.failures[0]
    assert asked < 10
    assert contents(store.path) == FILES


@pytest.mark.parametrize("number", [errno.EIO, errno.ENAMETOOLONG, errno.EACCES, errno.ESTALE])
def test_a_file_that_cannot_be_read_is_told_and_the_others_are_stored(
    number: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int, offset: int, nbytes: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/bad"):
            raise OSError(number, os.strerror(number))
        return read_at(fd, offset, nbytes)

    monkeypatch.setattr(source, "read_at", failing)
    listener = import_path(store, write_tree(tmp_path / "all", FILES), b"all")
    assert len(listener.failures) == 1
    assert os.strerror(number) in listener.failures[0]
    good = {b"all/" + name: content for name, content in FILES.items() if name != b"m/bad"}
    assert contents(store.path) == good
    assert problems(store) == []


LARGE = {
    b"all/a": weights(1_400_000, 1),
    b"all/bad": weights(3_400_000, 2),
    b"all/c": tuned(weights(1_400_000, 1)),
    b"all/d": weights(700_000, 3),
}
"""What several frames hold each, so that each is read, coded and compared on other threads than the others."""


@pytest.mark.parametrize("passes", [0, 1, 2], ids=["inspected", "coded", "compared"])
def test_a_file_that_cannot_be_read_any_more_on_another_thread_is_told_and_the_others_are_stored(
    passes: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place in the middle of the file can be read so often and no more."""
    place = 3 << 20
    read: list[int] = []

    def failing(fd: int, offset: int, nbytes: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/bad") and offset <= place < offset + nbytes:
            read.append(offset)
            if len(read) > passes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_at(fd, offset, nbytes)

    files = {name: model(raw) for name, raw in LARGE.items()}
    tree = write_tree(tmp_path / "all", {name.removeprefix(b"all/"): content for name, content in files.items()})
    with monkeypatch.context() as patch:
        patch.setattr(source, "read_at", failing)
        listener = import_path(store, tree, b"all")
    assert len(read) > passes
    assert len(listener.failures) == 1
    assert "all/bad" in listener.failures[0]
    del files[b"all/bad"]
    assert contents(store.path) == files
    assert problems(store) == []
    assert list(store.packs.unfinished()) == []


def test_a_disk_that_fails_ends_the_run_and_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_all_in(store)

    def failing(self: object, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("zipfs.store.packs.writer.PackWriter.append_frame", failing)
        with pytest.raises(OSError, match="Input/output"):
            compress(store)
    assert store.catalog.failures() == {}
    compress(store)
    assert contents(store.path) == FILES


def test_a_store_that_became_read_only_ends_the_run_and_is_told(store: Store) -> None:
    copy_all_in(store)
    seal_everything(store)
    sql(store.catalog, "PRAGMA query_only = ON")
    with pytest.raises(NotWritable):
        compress(store)
    sql(store.catalog, "PRAGMA query_only = OFF")
    compress(store)
    assert contents(store.path) == FILES


def test_a_file_that_crashes_its_parser_is_kept_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(read: object, nbytes: int) -> Layout:
        raise IndexError("list index out of range")

    monkeypatch.setattr(registry, "PARSERS", (registry.Parser("odd", lambda head, nbytes: True, crash),))
    copy_all_in(store)
    assert compress(store).failures == []
    assert contents(store.path) == FILES


def test_a_directory_that_cannot_be_sealed_keeps_no_other_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_all_in(store)
    original = seal

    def failing(store: Store, group: Sequence[Pending]) -> list[Pending]:
        if group[0].path.startswith(b"m"):
            raise ValueError("a value that nobody foresaw")
        return original(store, group)

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(queue, "seal", failing)
        seal_everything(store, failed=lambda shown, message: told.append(message))
    assert len(told) == 1
    assert told[0].startswith("m: could not be sealed")
    assert set(contents(store.path)) == {b"n/d"}
    seal_everything(store)
    assert contents(store.path) == FILES


def test_what_is_in_the_way_of_one_file_is_told_and_the_others_are_stored(store: Store, tmp_path: Path) -> None:
    import_path(store, write_tree(tmp_path / "one", {b"bad/below": b"1"}), b"m")
    listener = import_path(store, write_tree(tmp_path / "m", {b"a": b"2", b"bad": b"3", b"c": b"4"}), b"m")
    assert len(listener.failures) == 1
    assert "is a directory" in listener.failures[0]
    assert contents(store.path) == {b"m/bad/below": b"1", b"m/a": b"2", b"m/c": b"4"}
    assert problems(store) == []


def test_raw_content_that_cannot_be_removed_is_left_and_the_rest_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_all_in(store)
    stubborn = store.path / "spool" / max(path.name for path in (store.path / "spool").iterdir())
    original = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:  # as pathlib has it
        if self == stubborn:
            raise OSError(errno.EPERM, "Operation not permitted")
        original(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        assert len(compress(store).files) == len(FILES)
    assert list((store.path / "spool").iterdir()) == [stubborn]
    assert contents(store.path) == FILES


@pytest.mark.slow
@pytest.mark.parametrize("error", [Damaged("blob 7", "decodes to other bytes"), ValueError("a bug")])
def test_a_family_that_cannot_be_rebased_ends_no_optimizing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {b"one/" + name[4:]: content for name, content in badly_based_family(60_000).items()}
    other = {b"other/" + name[4:]: content for name, content in badly_based_family(50_000).items()}
    path = make_store(tmp_path, {**one, **other})
    original = rebase._Pack._verify

    def failing(self: rebase._Pack, new: OpenBlob, old: OpenBlob) -> None:
        if new.blob.nbytes == 2 * 60_000:
            raise error
        original(self, new, old)

    monkeypatch.setattr(rebase._Pack, "_verify", failing)
    with open_store(path) as store:
        done = optimize_all(store)
        assert done.rebased.tensors > 0
        assert done.rebased.given_up == 1
        assert list(store.packs.unfinished()) == []
        assert problems(store) == []
    assert contents(path) == {**one, **other}
