"""What earlier versions have stored stays readable: a small store of every format version, byte for byte."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.sample import SAMPLES, files
from tests.support.stores import collect_garbage, model, put_file, tuned, weights
from zipfs.serve import Library
from zipfs.store.check import check
from zipfs.store.repair import rebuild
from zipfs.store.store import FORMAT, open_store


@pytest.fixture(params=sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    """A store and the version of its format."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "store", int(request.param.stem.removeprefix("format-"))


def test_there_is_a_sample_of_the_present_format() -> None:
    assert (SAMPLES / f"format-{FORMAT}.zip").exists()


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
