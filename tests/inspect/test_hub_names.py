"""Files of a hub's cache go by the names that its snapshots give them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.stores import import_path, write_tree
from zipfs.inspect.hub_names import HubNames
from zipfs.store.store import Store

CACHED = b"hub/models--org--small"


@pytest.fixture
def names(store: Store, tmp_path: Path) -> HubNames:
    source = write_tree(tmp_path / "hub" / os.fsdecode(CACHED[4:]), {b"blobs/aa": b"1", b"blobs/bb": b"2"})
    for revision in ("r1", "r2"):
        (source / "snapshots" / revision / "sub").mkdir(parents=True)
        os.symlink("../../../blobs/aa", source / "snapshots" / revision / "sub" / "config.json")
    os.symlink("../../../../elsewhere", source / "snapshots/r1/odd")
    import_path(store, tmp_path / "hub", b"hub")
    return HubNames(store.catalog)


def test_the_first_snapshot_names_a_cached_file(names: HubNames) -> None:
    assert names.name(CACHED + b"/blobs/aa") == CACHED + b"/snapshots/r1/sub/config.json"


@pytest.mark.parametrize(
    "path", [CACHED + b"/blobs/bb", CACHED + b"/blobs/missing", b"models--a--b/blobs/aa", b"a/b", b"", b"blobs/aa"]
)
def test_any_other_path_stays_as_it_is(path: bytes, names: HubNames) -> None:
    assert names.name(path) == path
