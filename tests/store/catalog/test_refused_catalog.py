"""A catalog that is refused is let go of at once, and not whenever garbage is collected."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.support.stores import make_store
from zipfs.errors import CatalogDamaged
from zipfs.store.store import open_store


@pytest.mark.parametrize("read_only", [False, True])
def test_the_connection_to_a_refused_catalog_is_closed(
    read_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path, {})
    for leftover in path.glob("catalog.db-*"):
        leftover.unlink()
    (path / "catalog.db").write_bytes(b"no database" * 1000)
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remembered(database: str | Path, **options: object) -> sqlite3.Connection:
        opened.append(connect(database, **options))  # type: ignore[call-overload]
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remembered)
    with pytest.raises(CatalogDamaged):
        open_store(path, read_only=read_only)
    assert opened
    for db in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            db.execute("SELECT 1")
