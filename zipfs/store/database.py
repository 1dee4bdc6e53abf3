"""One SQLite connection to the catalog, and the errors of SQLite told as ours.

A `Database` is used by one thread at a time; open one per thread. Reading goes on while another thread or process
writes (WAL).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zipfs.errors import CatalogDamaged, NoSpace, NotAStore, PathError, StoreBusy, ZipfsError
from zipfs.store import schema
from zipfs.store.files import check_regular

BUSY_TIMEOUT_S = 60.0

_NO_SPACE = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE")
"""SQLite tells a full disk as an error of whatever it was about to write."""
_FOREIGN_ERRORS = (sqlite3.DatabaseError, TypeError, ValueError, OverflowError)
"""What reading the database may raise; but for the first, a column that holds what the schema rules out."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of SQLite as StoreBusy, NoSpace, PathError or CatalogDamaged."""
    try:
        yield
    except _FOREIGN_ERRORS as error:
        raise _translation(path, error) from error


def _translation(path: Path, error: Exception) -> ZipfsError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy(path, "another process has been changing it for a minute; try again later")
    if name.startswith("SQLITE_READONLY"):
        return PathError(path.parent, "the store cannot be changed: no right to write to it")
    if name in _NO_SPACE:
        return NoSpace(path.parent, str(error))
    return CatalogDamaged(f"{path}: {error}")


def check_files(path: Path) -> None:
    """Raises Damaged where a file of the database is none, or one is there that a catalog never leaves behind: whom
    SQLite follows or asks is not its maker's to say.
    """
    for suffix in ("", "-wal", "-shm"):
        check_regular(path.with_name(path.name + suffix))
    journal = path.with_name(path.name + "-journal")
    if os.path.lexists(journal):  # it could name files elsewhere for SQLite to delete
        raise CatalogDamaged(f"{journal} is there, which ZipFS never leaves behind")


def distrust(db: sqlite3.Connection) -> None:
    """Have nothing run that a database brings along: it may come from somebody else. Raises CatalogDamaged."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    columns = "CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB)"  # damaged text is none that Python takes
    for kind, name, sql in db.execute(f"SELECT {columns} FROM sqlite_master").fetchall():
        statement = (sql or b"").strip()
        plain = kind in (b"table", b"index") and not statement.upper().startswith(b"CREATE VIRTUAL")
        if not plain and (kind != b"trigger" or statement not in schema.FIRST.encode()):
            raise CatalogDamaged(f"it holds something that is none of ZipFS's: {kind!r} {name!r}")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    distrust(db)
    db.execute("PRAGMA foreign_keys = ON")
    # Durability comes from the manifest log, which is written and synced first.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -16384")
    db.execute("SELECT 1 FROM position")
    return db


def _nothing_beside_it(error: sqlite3.Error, path: Path, *, read_only: bool) -> bool:
    """Whether the database could not be opened because SQLite cannot make its files beside it, and it is complete
    without them.
    """
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_CANTOPEN":
        return True
    wal = path.with_name(path.name + "-wal")
    complete = not wal.exists() or wal.stat().st_size == 0
    return read_only and complete and (name == "SQLITE_IOERR_SHMSIZE" or name.startswith("SQLITE_READONLY"))


class Database:
    """`path` is catalog.db. Raises NotAStore where it is missing."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        check_files(path)
        with translated(path):
            try:
                self.db = _connect(path, "mode=ro" if read_only else "mode=rw")
            except sqlite3.OperationalError as error:
                if not path.exists():
                    raise NotAStore(path.parent, "its catalog is missing; `zipfs rebuild` makes a new one") from error
                if not _nothing_beside_it(error, path, read_only=read_only):
                    raise
                # On a disk that is read-only or full to the last byte nobody changes the database either. In a
                # directory of another user somebody may: what is read then does not match its checksums.
                self.db = _connect(path, "immutable=1")

    def close(self) -> None:
        self.db.close()

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:  # as `translated` does, but that would take longer than many a query
            return self.db.execute(sql, parameters).fetchall()
        except _FOREIGN_ERRORS as error:
            raise _translation(self.path, error) from error

    def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self.db.execute(sql, parameters).fetchone()
        except _FOREIGN_ERRORS as error:
            raise _translation(self.path, error) from error
        return row

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read in the block is of one moment."""
        with translated(self.path):
            self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.execute("ROLLBACK")

    def data_version(self) -> int:
        """Another number than before if somebody has changed the catalog, through any connection but this one."""
        return int(self.query("PRAGMA data_version")[0][0])
