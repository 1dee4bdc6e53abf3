"""What earlier versions have stored stays readable: a small store of every format version, byte for byte."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.support.sample import SAMPLES, files
from zipfs.serve import Library
from zipfs.store.check import check
from zipfs.store.repair import rebuild
from zipfs.store.store import FORMAT, open_store


@pytest.fixture(params=sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "store"


def test_there_is_a_sample_of_the_present_format() -> None:
    assert (SAMPLES / f"format-{FORMAT}.zip").exists()


@pytest.mark.parametrize("catalog", ["as it was", "rebuilt"])
def test_every_file_of_a_sample_is_read_back(sample: Path, catalog: str) -> None:
    if catalog == "rebuilt":
        for part in sample.glob("catalog.db*"):
            part.unlink()
        assert rebuild(sample).lost == []
    with Library(sample) as library:
        for path, content in files().items():
            assert library.read(path) == content
    with open_store(sample) as store:
        assert list(check(store, read_data=True)) == []
