"""Storing a tree of the host: what cannot be stored in it is told, and all else is stored."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stores import Listener, contents, import_path, run, write_tree
from zipfs.errors import PathError
from zipfs.ingest.import_tree import find
from zipfs.store.store import open_store

FILES = {b"a": b"1", b"deep/b": b"22", b"deep/er/c": b"333", b"z": b"4444"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "source", FILES)


def vanish(item: Path) -> None:
    if item.is_dir():
        for below in sorted(item.rglob("*"), reverse=True):
            below.rmdir() if below.is_dir() else below.unlink()
        item.rmdir()
    else:
        item.unlink()


@pytest.mark.parametrize("gone", ["deep", "deep/er", "deep/b", "z"])
def test_what_vanishes_while_a_tree_is_walked_is_told_and_the_rest_is_stored(
    gone: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.listdir

    def listdir(path: bytes) -> list[bytes]:
        names = original(path)
        if os.fsencode(source / gone) == os.path.join(path, os.fsencode(os.path.basename(gone))):
            vanish(source / gone)
        return names

    with open_store(tmp_path / "store", create=True) as store:
        monkeypatch.setattr(os, "listdir", listdir)
        found = find(store, source, b"m")
        monkeypatch.undo()
        listener = run(store, found)
        assert [message for message in found.failures if str(source / gone) in message]
        assert listener.failures == []
    expected = {b"m/" + name: content for name, content in FILES.items() if not name.startswith(gone.encode())}
    assert contents(tmp_path / "store") == expected


def test_a_file_that_holds_more_than_its_size_says_is_refused(tmp_path: Path) -> None:
    """Such as those of the kernel, which say that they are empty."""
    listener = Listener()
    with open_store(tmp_path / "store", create=True) as store:
        import_path(store, Path("/proc/version"), b"version", listener)
        import_path(store, Path("/proc/self/status"), b"status", listener)
    assert len(listener.failures) == 2
    assert "holds more" in listener.failures[0]
    assert contents(tmp_path / "store") == {}


def test_an_empty_file_is_stored(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open_store(tmp_path / "store", create=True) as store:
        assert import_path(store, tmp_path / "empty", b"empty").failures == []
    assert contents(tmp_path / "store") == {b"empty": b""}


@pytest.mark.parametrize("number", range(2), ids=["itself", "bound"])
def test_the_store_is_not_stored_in_itself(number: int, source: Path) -> None:
    path = source / "deep" / "store"
    with open_store(path, create=True) as store:
        where = source / "bound"
        if number:
            where.mkdir()
            subprocess.run(["mount", "--bind", path, where], check=True)
        try:
            found = find(store, source, b"m")
        finally:
            if number:
                subprocess.run(["umount", where], check=True)
        assert found.stores == ([path] if not number else [where, path])
        run(store, found)
    assert contents(path) == {b"m/" + name: content for name, content in FILES.items()}


@pytest.mark.parametrize("inside", [lambda path: path, lambda path: path / "packs", lambda path: path.parent / "link"])
def test_the_store_or_what_lies_in_it_cannot_be_named(inside: Callable[[Path], Path], tmp_path: Path) -> None:
    path = tmp_path / "store"
    (tmp_path / "link").symlink_to(path)
    with open_store(path, create=True) as store, pytest.raises(PathError, match="the store that it would be put into"):
        find(store, inside(path), b"x")


def test_a_pipe_that_has_taken_the_place_of_a_file_is_told_and_not_waited_for(source: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        found = find(store, source, b"m")
        (source / "z").unlink()
        os.mkfifo(source / "z")
        listener = run(store, found)
    assert len(listener.failures) == 1
    assert "is not a regular file any more" in listener.failures[0]
    assert contents(tmp_path / "store") == {b"m/" + name: content for name, content in FILES.items() if name != b"z"}
