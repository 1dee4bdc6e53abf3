"""What cannot be done ends with one clear line and the exit code that is documented, whatever the command."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.commands import Run, assert_refused
from tests.support.stores import noise


@pytest.fixture(params=["missing", "empty directory", "file", "junk marker", "other files", "newer", "inside a file"])
def no_store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    """Something that is no store, and the exit code that tells so."""
    path = tmp_path / "nothing"
    kind = request.param
    if kind == "file":
        path.write_bytes(noise(100))
    elif kind == "inside a file":
        path.write_bytes(b"")
        return path / "store", 3
    elif kind != "missing":
        path.mkdir()
    if kind == "junk marker":
        (path / "ZIPFS").write_bytes(noise(100))
    if kind == "other files":
        (path / "photo.jpg").write_bytes(b"mine")
    if kind == "newer":
        (path / "ZIPFS").write_text(json.dumps({"format": 99, "id": "00" * 16}))
        return path, 5
    return path, 3


@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["stat"],
        ["cat", "x"],
        ["extract", "x", "/nonexistent/out"],
        ["rm", "x"],
        ["gc"],
        ["fsck"],
        ["fsck", "--repair"],
        ["rebuild"],
        ["status"],
        ["ingest"],
        ["families"],
        ["explain"],
        ["report", "-o", "/nonexistent/report.html"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_what_is_no_store_is_told_and_left_alone(command: list[str], no_store: tuple[Path, int], run: Run) -> None:
    path, code = no_store
    before = sorted(path.rglob("*")) if path.is_dir() else path.exists()
    assert_refused(run(command[0], path, *command[1:]), code, str(path))
    assert (sorted(path.rglob("*")) if path.is_dir() else path.exists()) == before


@pytest.mark.parametrize("path", ["missing", "m/missing", "m/config.json/below", "../m", "m/missing/../m"])
def test_paths_that_are_not_there(path: str, run: Run, store: Path, tmp_path: Path) -> None:
    for command in (["ls", store, path], ["stat", store, path], ["cat", store, path], ["rm", store, path]):
        assert_refused(run(*command), 3, path)
    assert_refused(run("extract", store, path, tmp_path / "out"), 3, path)
    assert not (tmp_path / "out").exists()


def test_newer_formats_are_refused_with_the_advice_to_upgrade(run: Run, store: Path) -> None:
    db = sqlite3.connect(store / "catalog.db")
    (columns,) = [db.execute("SELECT * FROM _sqlite_migrations").fetchone()]
    assert columns is not None
    db.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('zipfs-catalog', '9999-later', '')"
    )
    db.commit()
    db.close()
    for command in (["ls", store], ["ingest", store], ["gc", store]):
        assert_refused(run(*command), 5, "newer", "Upgrade")
