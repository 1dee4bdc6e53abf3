"""Everything that takes long ends soon after Ctrl-C or SIGTERM, inside a file too, and leaves nothing behind."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, poll
from tests.support.stores import all_problems, contents, copy_in, import_path, make_store, noise, put_file
from zipfs.store.store import open_store

pytestmark = pytest.mark.slow

SOON_S = 20.0
"""Two seconds are promised; a machine that others load gets more."""
SIGNALS = [signal.SIGINT, signal.SIGTERM]
MIB = 1 << 20


def stopped(command: list[object], number: signal.Signals, *, when: Callable[[], object], expected: int = 130) -> str:
    """Send a signal to a command as soon as `when` says so; what it said when it had ended."""
    running = subprocess.Popen(
        [sys.executable, "-m", "zipfs.cli", *map(str, command)], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    try:
        poll(when, what="the work to begin")
        assert running.poll() is None, running.stderr.read() if running.stderr else ""
        running.send_signal(number)
        began_s = time.monotonic()
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert time.monotonic() - began_s < SOON_S
    assert running.returncode == expected, said
    assert "Traceback" not in said
    assert said.count("\n") <= 2
    return said


def parts(path: Path) -> list[Path]:
    return list((path / "packs").glob("*.part"))


def large_file(path: Path, nbytes: int) -> Path:
    """A file that takes long to code, and no long time to make."""
    block = noise(8 * MIB, 1)
    with open(path, "wb") as file:
        file.writelines(number.to_bytes(8, "little") + block[8:] for number in range(nbytes // len(block)))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_file(tmp_path_factory.mktemp("stopping") / "large", 384 * MIB)


@pytest.mark.parametrize("number", SIGNALS)
def test_ingest_stops_inside_a_file(number: signal.Signals, source: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path, {b"before": b"1"})
    said = stopped(["ingest", path, source], number, when=lambda: parts(path))
    assert "stopped" in said
    assert parts(path) == []
    assert contents(path) == {b"before": b"1"}
    assert all_problems(path) == []


def test_what_waits_in_the_spool_stays_there(source: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path, {b"before": b"1"})
    with open_store(path) as store:
        inode = copy_in(store, b"late", b"")
        spooled = store.spool_path(inode)
        spooled.unlink()
        spooled.hardlink_to(source)
    stopped(["ingest", path], signal.SIGTERM, when=lambda: parts(path))
    assert parts(path) == []
    assert spooled.stat().st_size == source.stat().st_size
    assert all_problems(path) == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["gc", "optimize", "ingest"])
def test_whoever_waits_for_another_process_stops(command: str, number: signal.Signals, tmp_path: Path) -> None:
    path = make_store(tmp_path, {b"a": b"1"})
    with open_store(path) as store:
        copy_in(store, b"b", b"2")
    db = sqlite3.connect(path / "catalog.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")  # as a process that hangs in a transaction
    try:
        stopped([command, path], number, when=has_handlers)
    finally:
        db.close()
    assert all_problems(path) == []


def has_handlers() -> bool:
    """Whether the command has come so far that it handles signals: Python itself has a handler for SIGINT alone."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    caught = [Path("/proc", pid, "status").read_text().split("SigCgt:")[1].split()[0] for pid in children]
    return any(int(mask, 16) >> signal.SIGTERM - 1 & 1 for mask in caught)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_check_of_all_data_stops(number: signal.Signals, source: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path, {})
    with open_store(path) as store:
        import_path(store, source, b"large")
    stopped(["fsck", path, "--read-data"], number, when=has_handlers)


@pytest.mark.parametrize("number", SIGNALS)
def test_no_half_file_is_left_of_an_extraction(number: signal.Signals, source: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path, {})
    with open_store(path) as store:
        import_path(store, source, b"large")
    out = tmp_path / "out"
    said = stopped(["extract", path, "large", out], number, when=lambda: out.exists() and out.stat().st_size > MIB)
    assert "interrupted" in said
    assert not out.exists()


def test_a_rebuild_leaves_no_half_catalog(tmp_path: Path) -> None:
    files = {f"f{number}".encode(): noise(100, number) for number in range(60)}
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        for name, content in files.items():
            put_file(store, tmp_path, name, content)
    stopped(["rebuild", path], signal.SIGTERM, when=(path / "catalog.db.new").exists)
    assert list(path.glob("catalog.db.new*")) == []
    assert contents(path) == files
