"""The file ZIPFS says whether a directory is a store, and reading it needs neither the catalog nor NumPy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zipfs.errors import NotAStore, UnknownVersion
from zipfs.store.marker import FORMAT, MARKER, is_store, read_marker, write_marker

STORE_ID = bytes(range(16))


def test_a_marked_directory_is_a_store(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    write_marker(tmp_path, STORE_ID)
    assert is_store(tmp_path)
    assert read_marker(tmp_path) == STORE_ID
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_a_marker_is_replaced_at_once(tmp_path: Path) -> None:
    write_marker(tmp_path, STORE_ID)
    write_marker(tmp_path, STORE_ID[::-1])
    assert read_marker(tmp_path) == STORE_ID[::-1]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("elsewhere")], ids=["directory", "link"])
def test_what_is_no_regular_file_is_no_marker(make: object, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / MARKER)
    assert not is_store(tmp_path)
    with pytest.raises(NotAStore):
        read_marker(tmp_path)


@pytest.mark.parametrize("path", ["missing", "file", "file/below"])
def test_where_no_directory_is_there_is_no_store(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_store(tmp_path / path)
    with pytest.raises(NotAStore):
        read_marker(tmp_path / path)


def test_a_newer_format_is_told(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"format": FORMAT + 1, "id": STORE_ID.hex()}))
    with pytest.raises(UnknownVersion):
        read_marker(tmp_path)


def test_reading_it_loads_neither_catalog_nor_numpy() -> None:
    heavy = ("numpy", "sqlite3", "sqlite_utils")
    code = f"import sys, zipfs.store.marker; print(sorted({{*{heavy}}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
