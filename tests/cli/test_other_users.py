"""Stores and files of other users: what their owner allows works, and all else is refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import FILES, Done, Run, assert_refused
from tests.support.mounts import REPOSITORY
from tests.support.stores import contents, write_tree

pytestmark = pytest.mark.slow


def as_nobody(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run as a user who owns nothing here: root may do everything."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "zipfs.cli"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300
    )


def refused_to_nobody(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert_refused(Done(done.returncode, done.stdout.encode(), done.stderr), code, *words)


def open_up(path: Path) -> None:
    """pytest's directories are for their owner only."""
    while path != path.parent:
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o005:
            path.chmod(path.stat().st_mode | 0o055)
        path = path.parent


def test_a_store_of_somebody_else_can_be_read_if_its_owner_lets_and_not_changed(store: Path, tmp_path: Path) -> None:
    open_up(tmp_path)
    for command in (["ls", store], ["cat", store, "m/config.json"], ["stat", store], ["fsck", store], ["gc", store]):
        refused_to_nobody(as_nobody(*command), 3, str(store), "belongs to", "closed to others")
    subprocess.run(["chmod", "-R", "go+rX", store], check=True)
    assert "config.json" in as_nobody("ls", "-r", store).stdout
    assert as_nobody("cat", store, "m/config.json").stdout == '{"a": 1}'
    assert as_nobody("fsck", store).returncode == 0
    for command in (["rm", store, "m/config.json"], ["gc", store], ["rebuild", store], ["ingest", store]):
        refused_to_nobody(as_nobody(*command), 3, str(store))
    assert len(contents(store)) == len(FILES)


def test_what_may_not_be_read(store: Path, tmp_path: Path, run: Run) -> None:
    open_up(tmp_path)
    secret = write_tree(tmp_path / "secret", {b"open": b"1", b"closed": b"2"})
    (secret / "closed").chmod(0)
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    done = as_nobody("ingest", mine / "store", secret)
    assert done.returncode == 1
    assert str(secret / "closed") in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(mine / "store") == {b"secret/open": b"1"}
    secret.chmod(0)
    refused_to_nobody(as_nobody("ingest", mine / "store", secret), 3, str(secret))
    store.chmod(0)
    refused_to_nobody(as_nobody("ls", store), 3, str(store))
    refused_to_nobody(as_nobody("ingest", tmp_path / "forbidden", mine), 3, "forbidden")
