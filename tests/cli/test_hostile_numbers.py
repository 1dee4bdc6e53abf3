"""Catalogs that hold what no store can, with sound checksums: no command ends in a traceback."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.commands import Run
from tests.support.stores import make_store, model, tuned, weights
from zipfs.store.objects.columns import layout_sum, row_sum
from zipfs.store.objects.values import Extent

FILE = "m/b.safetensors"
INODE = "id, kind, state, mode, uid, gid, nbytes, mtime_ns, ctime_ns, target, stored_nbytes, sha256, layout_sum"
ENTRY = "parent_id, name, inode_id, area"
READING = (
    ("ls", "-r", "-l"),
    ("stat",),
    ("families",),
    ("status",),
    ("fsck", "--read-data"),
    ("extract", "m"),
    ("cat", FILE),
    ("explain", FILE),
)
WRITING = (("gc",), ("ingest",), ("optimize",), ("rm", "-r", "m"), ("rebuild",))

HOSTILE = [
    ("position", "segment", "'x'"),
    ("position", "offset", "x'ff'"),
    ("position", "seq", "1.5"),
    ("position", "seq", "-1"),
    ("position", "seq", "9223372036854775807"),
    ("counters", "next", "x'ff'"),
    ("counters", "name", "'x'"),
    ("packs", "nbytes", "'x'"),
    ("blobs", "nbytes", "'x'"),
    ("blobs", "pack_offset", "9223372036854775807"),
    ("blobs", "shape", "'" + "[" * 3000 + "'"),
    ("blobs", "frames", "x'ffffffff'"),
    ("inodes", "sha256", "'x'"),
    ("inodes", "layout_sum", "x'ff'"),
    ("inodes", "atime_ns", "1.5"),
    ("inodes", "nbytes", "9223372036854775807"),
    ("entries", "parent_id", "'x'"),
    ("entries", "inode_id", "-1"),
    ("extents", "offset", "'x'"),
    ("extents", "offset", "-1"),
    ("extents", "blob_offset", "9223372036854775807"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = weights(20_000)
    files = {b"m/a.safetensors": model(base), b"m/b.safetensors": model(tuned(base)), b"m/c": b"hello" * 100}
    return make_store(tmp_path_factory.mktemp("hostile"), files)


def make_sums(db: sqlite3.Connection) -> None:
    """What whoever forges a catalog would do in the end."""
    for (inode_id,) in db.execute("SELECT id FROM inodes WHERE state = 'stored'").fetchall():
        rows = db.execute(
            "SELECT offset, nbytes, blob_id, blob_offset FROM extents WHERE inode_id = ? ORDER BY offset", (inode_id,)
        )
        total = layout_sum([Extent(*row) for row in rows if all(isinstance(value, int) for value in row)])
        db.execute(
            "UPDATE inodes SET layout_sum = ? WHERE id = ? AND typeof(layout_sum) = 'integer'", (total, inode_id)
        )
    for row in db.execute(f"SELECT {INODE}, atime_ns FROM inodes").fetchall():
        db.execute("UPDATE inodes SET sum = ? WHERE id IS ?", (row_sum(row), row[0]))
    for row in db.execute(f"SELECT {ENTRY} FROM entries").fetchall():
        db.execute("UPDATE entries SET sum = ? WHERE parent_id IS ? AND name IS ?", (row_sum(row), row[0], row[1]))


def forged(original: Path, store: Path, statement: str) -> Path:
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(original, store)
    with closing(sqlite3.connect(store / "catalog.db", isolation_level=None)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(statement)
        make_sums(db)
    return store


@pytest.mark.slow
@pytest.mark.parametrize(("table", "column", "value"), HOSTILE)
def test_no_command_ends_in_a_traceback(
    run: Run, original: Path, tmp_path: Path, table: str, column: str, value: str
) -> None:
    statement = f"UPDATE OR IGNORE {table} SET {column} = {value}"
    store = forged(original, tmp_path / "store", statement)
    for command in (*READING, *WRITING):
        if command in WRITING:
            forged(original, store, statement)
        name, *rest = command
        options, paths = [part for part in rest if part[0] == "-"], [part for part in rest if part[0] != "-"]
        more = [tmp_path / "out"] if name == "extract" else []
        done = run(name, *options, store, *paths, *more)  # any other exception than an exit fails the test
        assert done.code in (0, 1, 3, 4, 5), (command, done.err)
    assert run("cat", store, FILE).code == 0  # from the catalog that was rebuilt
