"""A catalog that is refused is let go of at once, and not whenever garbage is collected."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.stores import make_store
from zipfs.errors import CatalogDamaged
from zipfs.store.store import open_store

DAMAGE = {
    "no database": None,
    "a place that no log has": "UPDATE position SET seq = -1",
    "of another store": "UPDATE position SET store_id = x'00'",
}


def damage(path: Path, statement: str | None) -> None:
    for leftover in path.parent.glob(f"{path.name}-*"):
        leftover.unlink()
    if statement is None:
        path.write_bytes(b"no database" * 1000)
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute(statement)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("read_only", [False, True])
def test_the_connection_to_a_refused_catalog_is_closed(
    kind: str, read_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path, {})
    damage(path / "catalog.db", DAMAGE[kind])
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
