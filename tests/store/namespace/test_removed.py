"""What removing below `ingest/` means for what is served."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import compress, contents, copy_in, ingest_directory, problems, put_file
from zipfs.ingest.queue import seal_everything
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.objects.values import INGEST_ROOT, Inode, InodeId
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store
        assert problems(store) == []


def _parent(store: Store, path: bytes) -> InodeId:
    return tree.resolve(store.catalog, os.path.dirname(path), INGEST_ROOT).id


def unlink(store: Store, path: bytes) -> None:
    with store.transaction() as txn:
        ingest_side.unlink(txn, _parent(store, path), os.path.basename(path))


def remove_tree(store: Store, path: bytes) -> None:
    """What `rm -r` does below `ingest/`."""
    top = tree.resolve(store.catalog, path, INGEST_ROOT)
    found = list(tree.walk(store.catalog, top, path)) if top.is_directory else [(path, top)]
    for at, inode in reversed(found):
        if inode.is_directory:
            with store.transaction() as txn:
                ingest_side.rmdir(txn, _parent(store, at), os.path.basename(at))
        else:
            unlink(store, at)


def move(store: Store, old: bytes, new: bytes) -> None:
    with store.transaction() as txn:
        ingest_side.rename(txn, _parent(store, old), os.path.basename(old), _parent(store, new), os.path.basename(new))


def save(store: Store, files: dict[bytes, bytes]) -> None:
    for name, content in files.items():
        copy_in(store, name, content)


OLD = {b"m/config.json": b"old", b"m/model.safetensors": b"old weights", b"m/onnx/model.onnx": b"old graph"}
NEW = {
    b"m/config.json": b"new",
    b"m/model-00001-of-00002.safetensors": b"a",
    b"m/model-00002-of-00002.safetensors": b"b",
}


def test_removing_alone_removes_nothing_that_is_served(store: Store) -> None:
    save(store, OLD)
    compress(store)
    remove_tree(store, b"m")
    save(store, {b"other": b"1"})
    compress(store)
    assert contents(store.path) == {**OLD, b"other": b"1"}


@pytest.mark.parametrize("when", ["compressed", "sealed"])
def test_a_directory_that_is_made_anew_replaces_the_served_one_as_a_whole(store: Store, when: str) -> None:
    save(store, OLD)
    compress(store) if when == "compressed" else seal_everything(store)
    remove_tree(store, b"m")
    save(store, NEW)
    assert contents(store.path) == OLD  # until the new one is finished
    compress(store)
    assert contents(store.path) == NEW


def test_what_was_not_copied_in_goes_with_the_directory_too(store: Store, tmp_path: Path) -> None:
    save(store, OLD)
    compress(store)
    put_file(store, tmp_path, b"m/extra", b"ingested beside")
    remove_tree(store, b"m")
    save(store, NEW)
    compress(store)
    assert contents(store.path) == NEW


def test_an_empty_directory_replaces_nothing_yet(store: Store) -> None:
    save(store, OLD)
    compress(store)
    remove_tree(store, b"m")
    ingest_directory(store, b"m")
    compress(store)
    assert contents(store.path) == OLD
    save(store, NEW)
    compress(store)
    assert contents(store.path) == NEW


def test_empty_directories_of_the_new_version_stay_whenever_they_were_made(store: Store) -> None:
    save(store, OLD)
    compress(store)
    remove_tree(store, b"m")
    early = [ingest_directory(store, path) for path in (b"m/onnx", b"m/empty/deep")]
    compress(store)
    save(store, NEW)
    compress(store)
    assert contents(store.path) == NEW
    for path, directory in zip((b"m/onnx", b"m/empty/deep"), early, strict=True):
        assert tree.resolve(store.catalog, path, INGEST_ROOT).id == directory
        assert tree.resolve(store.catalog, path).is_directory


def test_a_staged_directory_that_takes_the_place_replaces_it(store: Store) -> None:
    save(store, OLD)
    save(store, {name.replace(b"m/", b"m.new/", 1): content for name, content in NEW.items()})
    compress(store)  # the staged one is served as well by now
    remove_tree(store, b"m")
    move(store, b"m.new", b"m")
    assert contents(store.path) == NEW
    compress(store)
    assert contents(store.path) == NEW


def test_a_staged_directory_that_is_moved_over_the_new_one_replaces_it(store: Store) -> None:
    save(store, OLD)
    compress(store)
    save(store, {name.replace(b"m/", b"m.new/", 1): content for name, content in NEW.items()})
    remove_tree(store, b"m")
    ingest_directory(store, b"m")
    move(store, b"m.new", b"m")  # rename(2) takes an empty directory away
    compress(store)
    assert contents(store.path) == NEW


def test_a_staged_directory_that_is_not_sealed_replaces_it_when_it_is(store: Store) -> None:
    save(store, OLD)
    compress(store)
    save(store, {name.replace(b"m/", b"m.new/", 1): content for name, content in NEW.items()})
    remove_tree(store, b"m")
    move(store, b"m.new", b"m")
    assert contents(store.path) == OLD
    compress(store)
    assert contents(store.path) == NEW


def test_files_that_are_removed_leave_with_the_next_version(store: Store) -> None:
    save(store, OLD)
    compress(store)
    unlink(store, b"m/model.safetensors")
    compress(store)
    assert contents(store.path) == OLD
    save(store, NEW)
    compress(store)
    assert contents(store.path) == {**NEW, b"m/onnx/model.onnx": b"old graph"}


@pytest.mark.parametrize("folder", [b"", b"loras/"])
def test_files_of_a_folder_of_models_stand_for_themselves(store: Store, folder: bytes) -> None:
    save(store, {folder + b"a.safetensors": b"a", folder + b"b.gguf": b"b"})
    compress(store)
    unlink(store, folder + b"a.safetensors")
    save(store, {folder + b"c.safetensors": b"c"})
    compress(store)
    assert set(contents(store.path)) == {folder + name for name in (b"a.safetensors", b"b.gguf", b"c.safetensors")}


@pytest.mark.parametrize(
    ("description", "removed", "added"),
    [
        (b"model_index.json", b"tokenizer/merges.txt", b"tokenizer/tokenizer.json"),
        (b"model_index.json", b"scheduler/config.json", b"scheduler/scheduler_config.json"),
        (b"config.json", b"onnx/model.onnx", b"onnx/model_fp16.onnx"),
        (b"saved_model.pb", b"variables/variables.index", b"variables/variables.data-00000-of-00001"),
    ],
)
def test_files_that_are_removed_from_a_part_of_a_model_leave_too(
    store: Store, description: bytes, removed: bytes, added: bytes
) -> None:
    save(store, {b"m/" + name: b"old" for name in (description, removed)})
    compress(store)
    unlink(store, b"m/" + removed)
    save(store, {b"m/" + added: b"new"})
    compress(store)
    assert contents(store.path) == {b"m/" + description: b"old", b"m/" + added: b"new"}


def test_a_file_that_is_made_again_stays(store: Store) -> None:
    save(store, OLD)
    compress(store)
    unlink(store, b"m/config.json")
    save(store, {b"m/config.json": b"again"})
    compress(store)
    assert contents(store.path) == {**OLD, b"m/config.json": b"again"}


def test_other_models_of_an_organisation_stay(store: Store) -> None:
    save(store, {b"org/a/w": b"a", b"org/b/w": b"b"})
    compress(store)
    remove_tree(store, b"org/a")
    save(store, {b"org/README.md": b"text", b"org/c/w": b"c"})
    compress(store)
    assert contents(store.path) == {b"org/a/w": b"a", b"org/b/w": b"b", b"org/c/w": b"c", b"org/README.md": b"text"}


def test_what_others_have_served_since_stays(store: Store, tmp_path: Path) -> None:
    save(store, OLD)
    compress(store)
    unlink(store, b"m/model.safetensors")
    put_file(store, tmp_path, b"m/model.safetensors", b"of somebody else")
    save(store, {b"m/new": b"1"})
    compress(store)
    assert contents(store.path)[b"m/model.safetensors"] == b"of somebody else"


def test_a_file_takes_the_place_of_a_removed_directory_and_the_other_way_round(store: Store) -> None:
    save(store, {b"x/file": b"1", b"y": b"2"})
    compress(store)
    remove_tree(store, b"x")
    unlink(store, b"y")
    save(store, {b"x": b"a file", b"y/file": b"in a directory"})
    compress(store)
    assert contents(store.path) == {b"x": b"a file", b"y/file": b"in a directory"}


def test_it_is_remembered_when_the_catalog_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        save(store, OLD)
        compress(store)
        remove_tree(store, b"m")
        save(store, NEW)
    rebuild(path, lambda what, done, total: None)
    with open_store(path) as again:
        compress(again)
        assert contents(path) == NEW


def test_nobody_sees_the_marks(store: Store) -> None:
    save(store, OLD)
    compress(store)
    unlink(store, b"m/config.json")
    directory: Inode = tree.resolve(store.catalog, b"m", INGEST_ROOT)
    assert store.catalog.xattrs(directory.id) == {}
    assert store.catalog.all_xattrs(directory.id) != {}


def test_a_name_is_found_for_as_long_as_it_is_served(store: Store) -> None:
    save(store, OLD)
    compress(store)
    assert tree.resolve(store.catalog, b"m/model.safetensors", INGEST_ROOT).nbytes == len(b"old weights")
