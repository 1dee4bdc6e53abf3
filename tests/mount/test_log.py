"""The log: one process writes it, rotation loses nothing, and a mount shows all of it while it grows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll, python, zipfs
from zipfs.mount.logs import Log

pytestmark = pytest.mark.mount

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\d+) [A-Z]+ zipfs[\w.]*: ")


def store_some(mount: Mount, names: list[str]) -> None:
    for name in names:
        (mount.ingest / name).mkdir()
        (mount.ingest / name / "file").write_bytes(noise(1000, len(name)))
        mount.stored(f"{name}/file")
        line = f"stored {name}/file: "
        poll(lambda line=line: line in (mount.point / ".zipfs" / "zipfs.log").read_text())  # type: ignore[misc]


def fill_up(log: Path, left_nbytes: int) -> None:
    """As if much had been logged before: the file is rotated away after `left_nbytes` more."""
    with open(log, "a") as file:
        file.write("x" * ((4 << 20) - left_nbytes - 1 - log.stat().st_size) + "\n")


def test_rotation_loses_nobodys_lines(mount: Mount) -> None:
    mount.umount()
    fill_up(mount.store / "log" / "zipfs.log", 500)
    mount.start()
    names = [f"model-{number}" for number in range(6)]
    store_some(mount, names)
    shown = (mount.point / ".zipfs" / "zipfs.log").read_text()
    for name in names:
        assert f"sealed {name}" in shown
        assert f"stored {name}/file: " in shown
    assert (mount.store / "log" / "zipfs.log.1").exists()
    current = mount.log()
    assert "sealed" in current and "stored" in current
    writers = {mount.pid, mount.status()["worker_pid"]}
    assert {int(found[1]) for found in map(LINE.match, current.splitlines()) if found} <= writers


def test_only_the_daemon_has_it_open(mount: Mount) -> None:
    store_some(mount, ["model"])
    log = str(mount.store / "log" / "zipfs.log")

    def has_it(pid: int) -> bool:
        return log in [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]

    assert has_it(mount.pid)
    assert not has_it(mount.status()["worker_pid"])


def test_commands_beside_a_mount_leave_it_alone(mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "more").write_bytes(noise(1000, 2))
    for command in (("ingest", mount.store, tmp_path / "more"), ("gc", mount.store), ("optimize", mount.store)):
        assert zipfs(*command).returncode == 0
    refused = zipfs("mount", mount.store, mount.point)
    assert refused.returncode != 0
    assert {int(found[1]) for found in map(LINE.match, mount.log().splitlines()) if found} == {mount.pid}


@pytest.mark.parametrize("option", ["-f", "-F"])
def test_who_follows_it_through_the_mount_sees_what_is_new(mount: Mount, tmp_path: Path, option: str) -> None:
    log = mount.store / "log" / "zipfs.log"
    fill_up(log, 600)
    with open(tmp_path / "seen", "wb") as seen:
        command = ["tail", "-s", "0.1", "-n", "0", option, str(mount.point / ".zipfs" / "zipfs.log")]
        tail = subprocess.Popen(command, stdout=seen)
    try:
        for number in range(6):
            store_some(mount, [f"model-{number}"])
            line = f"stored model-{number}/file: "
            poll(lambda line=line: line in (tmp_path / "seen").read_text(), what=line)  # type: ignore[misc]
    finally:
        tail.kill()
        tail.wait()
    assert log.with_name("zipfs.log.1").exists()


def test_many_small_files_are_sealed_in_one_line(mount: Mount) -> None:
    (mount.ingest / "many").mkdir()
    for number in range(50):
        (mount.ingest / "many" / str(number)).write_bytes(b"%d" % number)
    mount.wait()
    assert mount.log().count("sealed ") < 25


def test_the_log_has_its_size_and_time(mount: Mount) -> None:
    store_some(mount, ["model"])
    shown = mount.point / ".zipfs" / "zipfs.log"
    assert shown.stat().st_size == len(shown.read_bytes()) == (mount.store / "log" / "zipfs.log").stat().st_size
    assert shown.stat().st_mtime_ns == (mount.store / "log" / "zipfs.log").stat().st_mtime_ns


def test_a_name_cannot_forge_a_line(mount: Mount) -> None:
    forged = "2026-01-01 00:00:00,000 1 CRITICAL zipfs.store: all is lost"
    name = f"a\n{forged}\r\x1b[2J"
    (mount.ingest / name).write_bytes(b"content")
    mount.stored(name)
    poll(lambda: "stored" in mount.log())
    lines = mount.log().splitlines()
    assert all(LINE.match(line) for line in lines)
    assert forged not in lines
    assert "\x1b" not in mount.log()
    assert f"stored a\\n{forged}\\r\\x1b[2J: 7 bytes" in mount.log()


def test_a_traceback_is_below_its_message(mounts: Callable[..., Mount]) -> None:
    """What a bug tells of itself is indented: no line of it can be taken for a message."""
    log = mounts().store.with_name("log")
    code = """
import logging, sys
from pathlib import Path
from zipfs.mount.logs import Log
Log(Path(sys.argv[1])).write_to_it(also_stderr=False)
try:
    raise OSError("first\\n2026-01-01 00:00:00,000 1 CRITICAL forged")
except OSError as error:
    logging.getLogger("zipfs.x").error("it failed", exc_info=error)
"""
    python(code, log)
    first, *rest = log.read_text().splitlines()
    assert first.endswith("it failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_what_was_rotated_away_reads_as_one_with_the_rest(tmp_path: Path) -> None:
    log = Log(tmp_path / "zipfs.log")
    assert (log.nbytes, log.read(0, 10)) == (0, b"")
    whole = b""
    for age in ("zipfs.log.2", "zipfs.log.1", "zipfs.log"):
        (tmp_path / age).write_bytes(noise(1000, len(whole)))
        whole += (tmp_path / age).read_bytes()
    assert log.nbytes == 3000
    for offset, nbytes in ((0, 3000), (0, 1), (999, 2), (500, 2000), (2999, 10), (3000, 10), (5000, 1)):
        assert log.read(offset, nbytes) == whole[offset : offset + nbytes]


def test_a_read_only_mount_explains_errors_in_a_log_of_its_own(mount: Mount) -> None:
    """It may not write to the store, and shows its own messages after those of the store's log."""
    (mount.ingest / "file").write_bytes(noise(50_000, 1))
    mount.stored("file")
    mount.umount()
    for pack in (mount.store / "packs").rglob("*"):
        if pack.is_file():
            pack.write_bytes(bytes(pack.stat().st_size))
    before = mount.log()
    mount.start("--read-only")
    with pytest.raises(OSError, match="Input/output"):
        (mount.point / "file").read_bytes()
    shown = (mount.point / ".zipfs" / "zipfs.log").read_text()
    assert shown.startswith(before)
    assert "damaged" in shown[len(before) :]
    assert len(shown) == (mount.point / ".zipfs" / "zipfs.log").stat().st_size
    assert mount.log() == before
