"""Bytes of a catalog changed in turn: whoever looks at the store gets an answer or a clear error, never anything else.

Every 29th byte that is not zero is tried; what changes in a byte differs from place to place, so that all bits take
part.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import model, put_file, tuned, weights
from zipfs.cli.report.gather import gather
from zipfs.cli.report.page import page
from zipfs.errors import ZipfsError
from zipfs.inspect.file_report import report_file
from zipfs.inspect.tensor_names import TensorNames
from zipfs.library import Library
from zipfs.store.store import open_store

BASE = weights(3000)
STEP = 29


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flipped")
    path = root / "store"
    with open_store(path, create=True) as store:
        put_file(store, root, b"base/m.safetensors", model(BASE))
        put_file(store, root, b"tuned/m.safetensors", model(tuned(BASE)))
        put_file(store, root, b"README", b"hello")
        sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def observe(path: Path) -> None:
    with open_store(path, read_only=True) as store:
        "".join(page("store", gather(store, lambda what, done, total: None)))
    with Library(path) as library:
        names = TensorNames(library.store)
        for node in library.walk(library.node("")):
            if not node.inode.is_directory and node.inode.target is None:
                report_file(library.store, names, node.path, node.inode)


@pytest.mark.slow
def test_a_changed_byte_of_the_catalog_breaks_nothing(pristine: Path, tmp_path: Path) -> None:
    observe(pristine)
    path = Path(shutil.copytree(pristine, tmp_path / "store"))
    catalog = path / "catalog.db"
    content = catalog.read_bytes()
    refused = 0
    for at in [at for at, byte in enumerate(content) if byte][::STEP]:
        for part in path.glob("catalog.db-*"):
            part.unlink()
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        catalog.write_bytes(changed)
        try:
            observe(path)
        except ZipfsError as error:
            refused += 1
            assert str(error)
    assert refused > 10
