"""What earlier versions have stored stays readable: a small store of every format version, byte for byte."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.sample import ATIME_NS, MTIME_NS, SAMPLES, files
from tests.support.stores import collect_garbage, model, put_file, tuned, weights
from zipfs.errors import UnknownVersion
from zipfs.library import Library
from zipfs.store.maintenance.check import check
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.marker import FORMAT
from zipfs.store.store import open_store


@pytest.fixture(params=sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    """A store and the version of its format."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "store", int(request.param.stem.removeprefix("format-"))


def test_there_is_a_sample_of_the_present_format() -> None:
    assert (SAMPLES / f"format-{FORMAT}.zip").exists()


def test_a_store_of_a_format_to_come_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(SAMPLES / f"format-{FORMAT}.zip") as archive:
        archive.extractall(tmp_path)
    marker = tmp_path / "store" / "ZIPFS"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": FORMAT + 1}))
    with pytest.raises(UnknownVersion):
        Library(tmp_path / "store")


@pytest.mark.parametrize("catalog", ["as it was", "rebuilt"])
def test_every_file_of_a_sample_is_read_back(sample: tuple[Path, int], catalog: str) -> None:
    path, version = sample
    if catalog == "rebuilt":
        for part in path.glob("catalog.db*"):
            part.unlink()
        assert rebuild(path).lost == []
    with Library(path) as library:
        for name, content in files(version).items():
            assert library.read(name) == content
    with open_store(path) as store:
        assert list(check(store, read_data=True)) == []


def test_a_sample_tells_when_its_files_were_read(sample: tuple[Path, int]) -> None:
    """As far as its format keeps that; else it is the time of the last change. A store that is read stays as it is."""
    path, version = sample
    with Library(path) as library:
        for name in files(version):
            node = library.node(name)
            found = library.attributes(node)
            expected = (ATIME_NS, MTIME_NS) if version >= 3 else (node.inode.mtime_ns, node.inode.mtime_ns)
            assert (found.atime_ns, found.mtime_ns) == expected
    assert json.loads((path / "ZIPFS").read_text())["format"] == version


def test_a_library_follows_a_store_that_another_process_brings_to_the_present_format(tmp_path: Path) -> None:
    """What is changed from then on has an atime, in a library that was opened before there were any."""
    with zipfile.ZipFile(SAMPLES / "format-2.zip") as archive:
        archive.extractall(tmp_path)
    path = tmp_path / "store"
    with Library(path) as before:
        old = before.node("odd").inode
        assert old.atime_ns is None
        with open_store(path) as store, store.transaction() as txn:
            txn.put_inode(replace(txn.catalog.inode(old.id), atime_ns=5))
        assert before.node("odd").inode.atime_ns == 5
        assert before.node("base/config.json").inode.atime_ns is None
        assert [
            before.attributes(node).atime_ns for node in before.children(before.node("")) if node.path == b"odd"
        ] == [5]


def test_an_older_store_becomes_one_of_the_present_format_when_it_is_changed(tmp_path: Path) -> None:
    with zipfile.ZipFile(SAMPLES / "format-1.zip") as archive:
        archive.extractall(tmp_path)
    path = tmp_path / "store"
    base = np.frombuffer(weights(526_337), "<u2")
    before = Library(path)
    with open_store(path) as store:
        assert json.loads((path / "ZIPFS").read_text())["format"] == FORMAT
        put_file(store, tmp_path / "in", b"new", model(base.tobytes()))
        put_file(store, tmp_path / "in", b"slice", model(tuned(base[1000:200_000].tobytes())))
        assert list(check(store, read_data=True)) == []
        collect_garbage(store)
    with before, Library(path) as after:
        for library in (before, after):
            for name, content in files(1).items():
                assert library.read(name) == content
            assert library.read("slice") == model(tuned(base[1000:200_000].tobytes()))
