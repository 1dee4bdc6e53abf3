"""One table says of each column what it holds: the schema agrees, checksums are those of stores that exist."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.sample import SAMPLES
from tests.support.sums import entry_sum, inode_sum
from zipfs.store.catalog.schema import CURRENT, statements_of
from zipfs.store.catalog.statements import column_list
from zipfs.store.objects.columns import (
    BLOBS,
    ENTRIES,
    EXTENTS,
    INODES,
    PACKS,
    XATTRS,
    Table,
    inode_row_sum,
    layout_row_sum,
    layout_sum,
    row_sum,
)
from zipfs.store.objects.values import Area, BlobId, Entry, Extent, Inode, InodeId, Kind, State

TABLES = (INODES, ENTRIES, EXTENTS, XATTRS, PACKS, BLOBS)
FILE = Inode(InodeId(3), Kind.FILE, State.STORED, 0o644, 1, 2, 30, -4, 5, None, 6, bytes(range(32)), 7, -8)
ENTRY = Entry(InodeId(1), b"n", InodeId(3), Area.LINGERING)


@pytest.fixture(params=sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The catalog of a sample as it was left, before any migration."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    with closing(sqlite3.connect(tmp_path / "store" / "catalog.db")) as db:
        yield db


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_schema_has_the_columns_of_the_table(table: Table) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements_of(CURRENT):
            db.execute(statement)
        rows = db.execute(f"PRAGMA table_info({table.name})").fetchall()
    own_key = {"id"} if table.name == "packs" else set()  # given by SQLite
    found = {name: (kind, not (must or key)) for _, name, kind, must, _, key in rows if name not in own_key}
    expected = {column.name: (column.type.sql, column.optional) for column in table.columns}
    if "sum" in table.names:
        expected["sum"] = ("INTEGER", False)
    assert found == expected


def test_checksums_of_stored_rows_are_what_they_were(sample: sqlite3.Connection) -> None:
    there = {row[1] for row in sample.execute("PRAGMA table_info(inodes)")}
    columns = column_list(INODES)
    for name in {"atime_ns", "spool_id"} - there:
        columns = columns.replace(name, "NULL")
    inodes = sample.execute(f"SELECT {columns} FROM inodes").fetchall()
    for row in inodes:
        inode = INODES.from_row(row[:-1])
        assert inode_row_sum(row[:-1]) == inode_sum(inode) == row[-1]
        assert INODES.row_of(inode) == row[:-1]
        extents = sample.execute(
            "SELECT offset, nbytes, blob_id, blob_offset FROM extents WHERE inode_id = ? ORDER BY offset", (inode.id,)
        ).fetchall()
        if inode.state is State.STORED:
            assert (
                layout_sum([EXTENTS.from_row(extent) for extent in extents])
                == inode.layout_sum
                == layout_row_sum(extents)
            )
    entries = sample.execute(f"SELECT {column_list(ENTRIES)} FROM entries").fetchall()
    for row in entries:
        entry = ENTRIES.from_row(row[:-1])
        assert entry_sum(entry) == row_sum(row[:-1]) == row[-1]
        assert ENTRIES.row_of(entry) == row[:-1]
    assert len(inodes) > 3
    assert len(entries) > 3


def test_recorded_checksums() -> None:
    assert inode_sum(FILE) == 3836906488218276903
    assert inode_sum(replace(FILE, atime_ns=None)) == 6455139464672535869
    assert entry_sum(ENTRY) == 9070504631290598907
    assert layout_sum([Extent(0, 10, BlobId(5), 0), Extent(10, 20, BlobId(6), 8)]) == 599335906482446786
    assert layout_sum([]) == 5216347471367432826


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", 0), ("id", 1 << 63), ("id", "3"), ("id", 3.0), ("kind", "pipe"), ("state", b"open"), ("mode", 0o10000),
        ("mode", -1), ("mode", "x"), ("uid", 1 << 32), ("gid", -1), ("nbytes", -1), ("nbytes", 1.5),
        ("mtime_ns", -(1 << 63)), ("ctime_ns", 1 << 63), ("target", b""), ("target", b"a\0"), ("target", b"x" * 4096),
        ("target", "aim"), ("stored_nbytes", -1), ("stored_nbytes", None), ("sha256", b"short"), ("sha256", "x" * 32),
        ("layout_sum", -1), ("atime_ns", 1 << 63), ("atime_ns", 1.0), ("atime_ns", b""),
    ],
)  # fmt: skip
def test_an_inode_that_no_file_system_can_show_is_not_made(column: str, value: Any) -> None:
    row = dict(zip((one.name for one in INODES.columns), INODES.row_of(FILE), strict=True))
    assert INODES.from_row(tuple(row.values())) == FILE
    with pytest.raises((TypeError, ValueError, KeyError)):
        INODES.from_row(tuple({**row, column: value}.values()))


@pytest.mark.parametrize(
    ("column", "value"),
    [("parent_id", 0), ("parent_id", "1"), ("parent_id", 1.0), ("name", b""), ("name", b".."), ("name", b"a/b"),
     ("name", "n"), ("name", b"x" * 256), ("inode_id", -1), ("inode_id", None), ("area", 3), ("area", "0")],
)  # fmt: skip
def test_an_entry_that_no_directory_can_hold_is_not_made(column: str, value: Any) -> None:
    row = dict(zip((one.name for one in ENTRIES.columns), ENTRIES.row_of(ENTRY), strict=True))
    assert ENTRIES.from_row(tuple(row.values())) == ENTRY
    with pytest.raises((TypeError, ValueError, KeyError)):
        ENTRIES.from_row(tuple({**row, column: value}.values()))
