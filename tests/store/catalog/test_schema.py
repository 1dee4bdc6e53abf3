"""A catalog that was migrated has the schema of a new one, and both take and refuse the same rows."""

from __future__ import annotations

import re
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.sample import SAMPLES
from tests.support.sql import sql
from zipfs.errors import UnknownVersion
from zipfs.store.catalog.migrations import MIGRATION_SET, SCRIPTS
from zipfs.store.catalog.schema import CURRENT, statements_of
from zipfs.store.store import open_store

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
BAD_ROWS = (
    "INSERT INTO position (one, store_id, segment, offset, seq) VALUES (2, zeroblob(16), 1, 1, 1)",
    "UPDATE position SET store_id = x'00'",
    "INSERT INTO counters (name, next) VALUES ('file', 1)",
    "UPDATE counters SET next = 0",
    "INSERT INTO packs (name, nbytes) VALUES (x'00', 1)",
    "INSERT INTO packs (name, nbytes) VALUES (zeroblob(16), 0)",
    "INSERT INTO blobs VALUES (9001, 1, zeroblob(16), '', '[]', NULL, 0, 1, 0, 1, x'00000001', 1, '')",  # no base
    "INSERT INTO blobs VALUES (9001, 1, zeroblob(16), '', '[]', 1, 0, 1, 0, 1, x'00000001', 0, '')",
    "INSERT INTO blobs VALUES (9001, 1, zeroblob(16), '', '[]', 1, -1, 1, 0, 1, x'00000001', 1, '')",
    "INSERT INTO blobs VALUES (9001, 1, zeroblob(16), '', '[]', NULL, 0, 1, 0, 1, x'000001', NULL, '')",
    "INSERT INTO blobs VALUES (9001, 1, zeroblob(16), '', '[]', NULL, 0, 777, 0, 1, x'00000001', NULL, '')",  # no pack
    "INSERT INTO signatures VALUES (1, x'00')",
    "INSERT INTO inodes VALUES (9001, 'pipe', 'none', 0, 0, 0, 0, 0, 0, NULL, 0, NULL, 0, 0, NULL, NULL)",
    "INSERT INTO inodes VALUES (9001, 'file', 'none', 0, 0, 0, 0, 0, 0, NULL, 0, NULL, 0, 0, NULL, NULL)",
    "INSERT INTO inodes VALUES (9001, 'symlink', 'none', 0, 0, 0, 0, 0, 0, NULL, 0, NULL, 0, 0, NULL, NULL)",
    "INSERT INTO inodes VALUES (9001, 'file', 'open', 0, 0, 0, -1, 0, 0, NULL, 0, NULL, 0, 0, NULL, NULL)",
    "INSERT INTO entries VALUES (1, x'', 1, 0, 0)",
    "INSERT INTO entries VALUES (1, x'61', 1, 3, 0)",
    "INSERT INTO entries VALUES (1, x'61', 9999, 0, 0)",
    "INSERT INTO xattrs VALUES (9999, x'61', x'')",
    "INSERT INTO extents VALUES (1, 0, 0, 1, 0)",
    "INSERT INTO extents VALUES (1, -1, 1, 1, 0)",
    "INSERT INTO failures VALUES (9999, '', 1, 1)",
)


@pytest.fixture
def new(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The catalog of a store that was just made."""
    open_store(tmp_path / "new", create=True).close()
    with closing(connected(tmp_path / "new")) as db:
        yield db


@pytest.fixture(params=sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The catalog of a sample after it was opened for writing."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path / "old")
    open_store(tmp_path / "old" / "store").close()
    with closing(connected(tmp_path / "old" / "store")) as db:
        yield db


def connected(store: Path) -> sqlite3.Connection:
    db = sqlite3.connect(store / "catalog.db", isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def normalised(statement: str) -> list[str]:
    """The parts of a CREATE statement in an order of their own: ALTER TABLE puts a column behind the constraints."""
    text = " ".join(re.sub(r"--[^\n]*", " ", statement).replace('"', "").split())
    head, _, rest = text.partition("(")
    body, _, tail = rest.rpartition(")")
    parts, depth, part = [], 0, ""
    for character in body:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [head.strip(), *sorted(part.strip() for part in [*parts, part]), tail.strip()]


def master(db: sqlite3.Connection) -> dict[tuple[str, str], list[str]]:
    rows = db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {(kind, name): normalised(statement) for kind, name, statement in rows}


def facts(db: sqlite3.Connection) -> dict[str, object]:
    """What SQLite itself says of every table: columns in their order, keys, indices, and the columns of these."""
    found: dict[str, object] = {}
    for (table,) in db.execute(TABLES).fetchall():
        indices = sorted(row[1:] for row in db.execute(f"PRAGMA index_list({table})"))
        found[table] = (
            db.execute(f"PRAGMA table_xinfo({table})").fetchall(),
            sorted(row[2:] for row in db.execute(f"PRAGMA foreign_key_list({table})")),
            indices,
            [db.execute(f"PRAGMA index_xinfo({index[0]})").fetchall() for index in indices],
        )
    return found


def test_a_migrated_catalog_has_the_schema_of_a_new_one(new: sqlite3.Connection, migrated: sqlite3.Connection) -> None:
    assert master(migrated) == master(new)
    assert facts(migrated) == facts(new)


def test_a_new_catalog_is_what_the_schema_says(new: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements_of(CURRENT):
            db.execute(statement)
        bookkeeping = {key: value for key, value in master(new).items() if "_sqlite_migrations" in key[1]}
        assert master(db) | bookkeeping == master(new)
    assert len(bookkeeping) == 2


def test_both_say_that_all_migrations_were_applied(new: sqlite3.Connection, migrated: sqlite3.Connection) -> None:
    for db in (new, migrated):
        rows = db.execute("SELECT migration_set, name FROM _sqlite_migrations ORDER BY id").fetchall()
        assert rows == [(MIGRATION_SET, name) for name in SCRIPTS]


def test_both_refuse_the_same_rows(new: sqlite3.Connection, migrated: sqlite3.Connection) -> None:
    for db in (new, migrated):
        for statement in BAD_ROWS:
            with pytest.raises(sqlite3.IntegrityError, match="constraint failed"):
                db.execute(statement)


def test_what_is_read_anew_is_dropped_from_an_older_catalog_which_becomes_smaller(tmp_path: Path) -> None:
    """Of tensors of one frame; members keep their samples, and large tensors all."""
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        sql(store.catalog, "DELETE FROM _sqlite_migrations WHERE name = '0006-read-anew'")
        sql(store.catalog, "INSERT INTO packs VALUES (1, zeroblob(16), 1)")
        for blob_id in range(1, 401):
            base_id = 1 if blob_id > 200 else None
            nbytes = (1 << 20) + (blob_id % 200 < 40)
            sql(
                store.catalog,
                "INSERT INTO blobs VALUES (?, ?, zeroblob(16), 'BF16', '[1]', ?, 0, 1, 0, 1, x'00000001', ?, '')",
                (blob_id, nbytes, base_id, base_id and nbytes),
            )
            sql(store.catalog, "INSERT INTO sketches VALUES (?, zeroblob(2032))", (blob_id,))
            sql(store.catalog, "INSERT INTO landmarks VALUES (?, zeroblob(4000))", (blob_id,))
        sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
    before_nbytes = (path / "catalog.db").stat().st_size
    with open_store(path) as store:
        sketched = {row[0] for row in sql(store.catalog, "SELECT blob_id FROM sketches")}
        sampled = {row[0] for row in sql(store.catalog, "SELECT blob_id FROM landmarks")}
    large = {blob_id for blob_id in range(1, 401) if blob_id % 200 < 40}
    assert sketched == large
    assert sampled == large | set(range(201, 401))
    assert (path / "catalog.db").stat().st_size < 0.75 * before_nbytes


def test_the_trigger_of_the_first_schema_is_gone(migrated: sqlite3.Connection) -> None:
    """Blobs and bases change places within a transaction, so that chains are looked for at its end."""
    assert migrated.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)


def test_a_catalog_that_a_newer_version_has_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        sql(
            store.catalog,
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, '9999-later', '')",
            (MIGRATION_SET,),
        )
    for read_only in (False, True):
        with pytest.raises(UnknownVersion, match="9999-later"):
            open_store(path, read_only=read_only)
