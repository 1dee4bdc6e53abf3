"""A store with a base, two blobs that are coded against it, and one that is apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import Hub, Made
from tests.support.sql import sql
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store, open_store


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[BlobId]]:
    """The store, and its blobs: the base, the one apart, one against the whole base, one against half of it."""
    path = tmp_path_factory.mktemp("statistics") / "store"
    with open_store(path, create=True) as store:
        hub = Hub(store)
        base, other = hub.add_model("base", [Made("a", (64, 64)), Made("b", (8, 8))])
        whole, half = hub.add_model(
            "tuned",
            [Made("a", (64, 64), base=base), Made("h", (32, 64), base=base, base_items=(2048, 4096))],
        )
        hub.add_model("same", [Made("a", (64, 64), same=whole)])
        hub.finish()
        sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path, [base, other, whole, half]


@pytest.fixture
def store(made: tuple[Path, list[BlobId]], tmp_path: Path) -> Iterator[Store]:
    with open_store(Path(shutil.copytree(made[0], tmp_path / "store"))) as opened:
        yield opened
