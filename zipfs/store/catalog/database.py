"""Owns the SQLite connection to the catalog, and the translation of SQLite's errors to ours, by kind.

| what it was | raised |
|---|---|
| another process has it | StoreBusy, after a minute; Stopped as soon as that is asked for |
| no right to write, a file system that became read-only | NotWritable |
| a full disk | NoSpace |
| the disk fails | CatalogUnreadable |
| what is stored contradicts itself or the schema | CatalogDamaged |
| a value to be written that the schema rules out | Refused |
| a mistake in our code: a closed connection, SQL that is none, a parameter of the wrong type | as it is |

A `Database` is used by one thread at a time; open one per thread. Reading goes on while another thread or process
writes (WAL).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from zipfs.errors import CatalogDamaged, CatalogUnreadable, NoSpace, NotAStore, NotWritable, Refused, Stopped, StoreBusy
from zipfs.store.catalog.migrations import FIRST
from zipfs.store.disk.files import check_regular
from zipfs.store.disk.stopping import Stop

BUSY_TIMEOUT_S: Final = 60.0
BUSY_SLICE_S: Final = 0.25
"""SQLite waits for so long at a time, in which Python runs no handler of a signal."""
_STEPS_AT_ONCE: Final = 1_000_000
"""Of SQLite's machine, until the next check whether to stop: some hundredths of a second."""

_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
_NO_SPACE: Final = (
    "SQLITE_FULL",
    "SQLITE_IOERR_WRITE",
    "SQLITE_IOERR_FSYNC",
    "SQLITE_IOERR_SHMSIZE",
    "SQLITE_IOERR_TRUNCATE",
)
"""SQLite reports a full disk as an error of whatever it was about to write."""
_OURS: Final = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.NotSupportedError)
"""Of the module, not of SQLite: it was called in a way that it cannot be called."""
_NO_SQL: Final = ("syntax error", "incomplete input", "within a transaction", "no transaction is active")
_ERRORS: Final = (sqlite3.Error, OverflowError, UnicodeError)
"""The second and the third: a parameter that is no value for SQLite, and a message of it that quotes damaged text."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate the errors of reading with SQLite, by the table of the module."""
    try:
        yield
    except _ERRORS as error:
        _raise_translated(path, error)


@contextmanager
def translated_write(path: Path) -> Iterator[None]:
    """Translate the errors of writing rows: what contradicts the schema is then what was to be written."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError) as error:
        raise Refused(path, str(error)) from error
    except _ERRORS as error:
        _raise_translated(path, error)


@contextmanager
def rows_made_values(path: Path) -> Iterator[None]:
    """Raise CatalogDamaged for what goes wrong in making values of rows: a column holds what the schema rules out."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CatalogDamaged(f"{path}: {error}") from error


def _raise_translated(path: Path, error: Exception) -> NoReturn:
    translation = _translation(path, error)
    if translation is error:
        raise error
    raise translation from error


def _translation(path: Path, error: Exception) -> Exception:
    if isinstance(error, _OURS):
        return error
    if isinstance(error, OverflowError | UnicodeEncodeError):
        return Refused(path, str(error))
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_INTERRUPT":
        return Stopped()
    if name.startswith(_BUSY):
        return StoreBusy(path, "another process has been changing it for a minute; try again later")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
        return NotWritable(path.parent, "no right to write to it, or its file system is read-only")
    if name in _NO_SPACE:
        return NoSpace(path.parent, str(error))
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return CatalogUnreadable(path, str(error))
    if name == "SQLITE_ERROR" and any(mistake in str(error) for mistake in _NO_SQL):
        return error
    return CatalogDamaged(f"{path}: {error}")


def check_files(path: Path) -> None:
    """Raise Damaged where a file of the database is none, or one is there that a catalog never leaves behind: whom
    SQLite follows or asks is not its maker's to say.
    """
    for suffix in ("", "-wal", "-shm"):
        check_regular(path.with_name(path.name + suffix))
    journal = path.with_name(path.name + "-journal")
    if os.path.lexists(journal):  # it could name files elsewhere for SQLite to delete
        raise CatalogDamaged(f"{journal} is there, which ZipFS never leaves behind")


def distrust(db: sqlite3.Connection) -> None:
    """Have SQLite run nothing that a database brings along: it may come from somebody else. Raises CatalogDamaged."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    columns = "CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB)"  # damaged text is none that Python takes
    for kind, name, sql in db.execute(f"SELECT {columns} FROM sqlite_master").fetchall():
        statement = (sql or b"").strip()
        plain = kind in (b"table", b"index") and not statement.upper().startswith(b"CREATE VIRTUAL")
        if not plain and (kind != b"trigger" or statement not in FIRST.encode()):
            raise CatalogDamaged(f"it holds something that is none of ZipFS's: {kind!r} {name!r}")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=BUSY_SLICE_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        distrust(db)
        db.execute("PRAGMA foreign_keys = ON")
        # Durability comes from the manifest log, which is written and synced first.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -16384")
        db.execute("SELECT 1 FROM position")
    except BaseException:
        db.close()
        raise
    return db


def _nothing_beside_it(error: sqlite3.Error, path: Path, *, read_only: bool) -> bool:
    """Return whether the database could not be opened because SQLite cannot make its files beside it, and is
    complete without them.
    """
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_CANTOPEN":
        return True
    wal = path.with_name(path.name + "-wal")
    complete = not wal.exists() or wal.stat().st_size == 0
    return read_only and complete and (name == "SQLITE_IOERR_SHMSIZE" or name.startswith("SQLITE_READONLY"))


class Database:
    """`path` is catalog.db; once `stop` is set nobody is waited for. Raises NotAStore where the file is missing."""

    def __init__(self, path: Path, *, read_only: bool = False, stop: Stop | None = None) -> None:
        self.path = path
        self.stop = stop or Stop()
        check_files(path)
        with translated(path):
            try:
                self._db = _connect(path, "mode=ro" if read_only else "mode=rw")
            except sqlite3.OperationalError as error:
                if not path.exists():
                    raise NotAStore(path.parent, "its catalog is missing; `zipfs rebuild` makes a new one") from error
                if not _nothing_beside_it(error, path, read_only=read_only):
                    raise
                # On a disk that is read-only or full to the last byte nobody changes the database either. In a
                # directory of another user somebody may: what is read then does not match its checksums.
                self._db = _connect(path, "immutable=1")
        self._db.set_progress_handler(self.stop.is_set, _STEPS_AT_ONCE)

    def close(self) -> None:
        self._db.close()

    def _query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:  # as `translated` does, but that would take longer than many a query
            return self._db.execute(sql, parameters).fetchall()
        except _ERRORS as error:
            with translated(self.path):
                return self._again(error, sql, parameters).fetchall()

    def _row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(sql, parameters).fetchone()
        except _ERRORS as error:
            with translated(self.path):
                row = self._again(error, sql, parameters).fetchone()
        return row

    def _write(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement inside of a transaction. Raises Refused where its values contradict the schema."""
        with translated_write(self.path):
            return self._db.execute(sql, parameters).fetchall()

    def _write_all(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement with each row of values."""
        with translated_write(self.path):
            self._db.executemany(sql, rows)

    def _again(self, error: Exception, sql: str, parameters: Sequence[object]) -> sqlite3.Cursor:
        """Run a statement that failed again and again as long as another process is in its way."""
        until_s = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            name = getattr(error, "sqlite_errorname", "")
            if not name.startswith(_BUSY) or name == "SQLITE_BUSY_SNAPSHOT" or time.monotonic() > until_s:
                raise error
            self.stop.check()
            try:
                return self._db.execute(sql, parameters)
            except sqlite3.Error as newer:
                error = newer

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have everything that is read in the block be of one moment."""
        self._query("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # after some errors SQLite has ended it
                self._db.execute("ROLLBACK")

    def data_version(self) -> int:
        """Return another number than before if somebody has changed the catalog through another connection."""
        return int(self._query("PRAGMA data_version")[0][0])
