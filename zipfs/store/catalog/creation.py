"""Owns the making of a new catalog, and the bringing of an older one to the schema of today."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlite_utils

from zipfs.store.catalog import log_record
from zipfs.store.catalog.database import BUSY_TIMEOUT_S, check_files, distrust, translated
from zipfs.store.catalog.migrations import MIGRATIONS, SCRIPTS
from zipfs.store.catalog.schema import CURRENT, statements_of
from zipfs.store.disk.files import create_file


def create_catalog(path: Path, store_id: bytes, segment: int = 1) -> None:
    """Make an empty catalog that has applied nothing of manifest segment `segment` yet. Replaces what is at `path`."""
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


def _record_all_migrations(db: sqlite_utils.Database) -> None:
    """Have a new catalog say that it is what all migrations lead to."""
    MIGRATIONS.ensure_migrations_table(db)
    now = str(dt.datetime.now(dt.UTC))
    rows = [{"migration_set": MIGRATIONS.name, "name": name, "applied_at": now} for name in SCRIPTS]
    db.table(MIGRATIONS.migrations_table).insert_all(rows)


def migrate_catalog(path: Path, before: Callable[[], None]) -> None:
    """Bring a catalog to the schema of today; `before` is called first if that changes anything.

    Raises Damaged, StoreBusy, NotWritable, NoSpace, CatalogUnreadable, CatalogDamaged.
    """
    check_files(path)
    with translated(path), closing(sqlite_utils.Database(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S))) as db:
        distrust(db.conn)
        if MIGRATIONS.pending(db):
            before()
            MIGRATIONS.apply(db)
