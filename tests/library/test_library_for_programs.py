"""The library as a program meets it: paths of any kind, errors that `except OSError` catches, an end by `close`."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.support.stores import make_store, model, noise, tuned, weights
from zipfs.errors import IsADirectory, NotAStore, NotFound, PackDamaged
from zipfs.library import Library

BASE = weights(30_000)
FILES = {
    b"m/base": model(BASE),
    b"m/tuned": model(tuned(BASE)),
    b"m/sub/config.json": b"{}",
    b"m/\xff\n": b"a name that is no text",
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path, FILES)


@pytest.fixture
def library(store: Path) -> Iterator[Library]:
    with Library(store) as opened:
        yield opened


@pytest.mark.parametrize("path", ["m/sub/config.json", b"m/sub/config.json", PurePosixPath("m/sub/config.json")])
def test_a_path_may_be_of_any_kind(library: Library, path: str | bytes | PurePosixPath) -> None:
    assert library.read(path) == b"{}"
    content = library.open(path)
    assert bytes(content.read(0, 1)) == b"{"
    content.close()
    node = library.node(path)
    assert library.read(node) == b"{}"
    assert [found.path for found in library.children(os.path.dirname(os.fspath(path)))] == [b"m/sub/config.json"]
    assert [found.path for found in library.walk(path)] == [b"m/sub/config.json"]


def test_nodes_say_their_paths_as_text(library: Library) -> None:
    nodes = list(library.walk("m"))
    assert sorted(str(node) for node in nodes) == ["m", "m/base", "m/sub", "m/sub/config.json", "m/tuned", "m/\udcff\n"]
    for node in nodes:
        assert os.fsencode(node) == node.path
        assert library.node(str(node)) == node == library.node(node)
    assert [node.name for node in library.children("m/sub")] == ["config.json"]
    assert [node.path for node in library.children()] == [b"m"]
    assert (library.node().name, str(library.node())) == ("", "")


def test_dots_lead_where_they_lead_anywhere(library: Library) -> None:
    assert library.node("m/sub/../base").path == b"m/base"
    assert library.node("./m/./sub/..").path == b"m"
    for wrong in ("m/missing/../base", "..", "m/../../m"):
        with pytest.raises(FileNotFoundError):
            library.node(wrong)
    with pytest.raises(NotADirectoryError):
        library.node("m/base/../base")


def test_errors_are_those_of_the_system_and_ours(library: Library, store: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        library.read("m/nothing")
    assert NotFound in type(missing.value).__mro__
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, b"m/nothing")
    assert str(missing.value) == "m/nothing: no such file or directory in the store"
    with pytest.raises(IsADirectoryError) as directory:
        library.open("m")
    assert IsADirectory in type(directory.value).__mro__
    for wrong in (lambda: library.children("m/base"), lambda: library.node("m/base/x")):
        with pytest.raises(NotADirectoryError):
            wrong()
    with pytest.raises(FileNotFoundError):
        list(library.walk("m/nothing"))
    with pytest.raises(OSError, match="is not a ZipFS store") as no_store:
        Library(store / "packs")
    assert NotAStore in type(no_store.value).__mro__


def test_damage_is_an_error_of_reading(store: Path) -> None:
    for pack in (store / "packs").iterdir():
        content = bytearray(pack.read_bytes())
        content[64:164] = noise(100)
        pack.write_bytes(content)
    with Library(store) as library, pytest.raises(OSError, match="damaged") as damaged:
        library.read("m/base")
    assert PackDamaged in type(damaged.value).__mro__
    assert damaged.value.errno == errno.EIO


def test_a_library_is_closed_once_and_for_all(store: Path) -> None:
    library = Library(str(store))
    assert library.read("m/sub/config.json") == b"{}"
    library.close()
    library.close()
    with Library(store) as again:
        again.close()


def test_a_closed_library_keeps_no_memory_until_garbage_is_collected(store: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        with Library(store) as library:
            library.read("m/base")
            frames = weakref.ref(library.store.frames)
        del library
        assert frames() is None
    finally:
        gc.enable()
