"""Owns the making of a new catalog, and the bringing of an older one to the schema of today."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zipfs.store.catalog import log_record
from zipfs.store.catalog.database import BUSY_TIMEOUT_S, check_files, distrust, translated
from zipfs.store.catalog.migrations import MIGRATION_SET, SCRIPTS
from zipfs.store.catalog.schema import CURRENT, statements_of
from zipfs.store.disk.files import create_file

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

_GIVEN_BACK: Final = 16
"""A catalog is made smaller if more than one in so many of its pages is free."""

# sqlite_utils is imported where a catalog is made or migrated only: it would be a fifth of the time in which a command
# that reads a store starts.


def create_catalog(path: Path, store_id: bytes, segment: int = 1) -> None:
    """Make an empty catalog that has applied nothing of manifest segment `segment` yet. Replaces what is at `path`."""
    import sqlite_utils

    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(create_file(path))  # SQLite gives the files that it makes beside it the same mode and owner
    with translated(path), closing(sqlite_utils.Database(sqlite3.connect(path))) as db:
        db.enable_wal()
        with db.atomic():
            for statement in statements_of(CURRENT):
                db.execute(statement)
            _record_all_migrations(db)
            db.table("counters").insert_all([{"name": "inode", "next": 1}, {"name": "blob", "next": 1}])
            start = {"segment": segment, "offset": log_record.SEGMENT_HEADER.size, "seq": 0}
            db.table("position").insert({"one": 1, "store_id": store_id, **start})


def _record_all_migrations(db: Database) -> None:
    """Have a new catalog say that it is what all migrations lead to."""
    migrations = _all_migrations()
    migrations.ensure_migrations_table(db)
    now = str(dt.datetime.now(dt.UTC))
    rows = [{"migration_set": MIGRATION_SET, "name": name, "applied_at": now} for name in SCRIPTS]
    db.table(migrations.migrations_table).insert_all(rows)


def _all_migrations() -> Migrations:
    """Return the migrations in the form in which sqlite_utils applies them."""
    from sqlite_utils.migrations import Migrations

    migrations = Migrations(MIGRATION_SET)

    def register(name: str, script: str) -> None:
        @migrations(name=name)
        def run(db: Database) -> None:
            for statement in statements_of(script):
                db.execute(statement)

    for name, script in SCRIPTS.items():
        register(name, script)
    return migrations


def _is_of_today(db: sqlite3.Connection) -> bool:
    """Return whether all migrations have been applied."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchall():
        return False
    names = db.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (MIGRATION_SET,))
    return {name for (name,) in names} >= SCRIPTS.keys()


def migrate_catalog(path: Path, before: Callable[[], None]) -> None:
    """Bring a catalog to the schema of today; `before` is called first if that changes anything.

    Raises Damaged, StoreBusy, NotWritable, NoSpace, CatalogUnreadable, CatalogDamaged.
    """
    check_files(path)
    with translated(path), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        distrust(connection)
        if _is_of_today(connection):
            return
        import sqlite_utils

        before()
        _all_migrations().apply(sqlite_utils.Database(connection))
        _give_back(connection)


def _give_back(connection: sqlite3.Connection) -> None:
    """Make a catalog smaller that has lost much by a migration.

    It stays as large on a full disk, while others write to it, and if a page of it is damaged: what is free is used
    again by rows to come.
    """
    free, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    if free > pages // _GIVEN_BACK:
        with suppress(sqlite3.DatabaseError):
            connection.execute("VACUUM")
