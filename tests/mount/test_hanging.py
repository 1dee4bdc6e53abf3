"""A mount that hangs (its daemon is stopped): every command says so within seconds, and can take it away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, is_alive, poll, run, zipfs
from zipfs.errors import PathError
from zipfs.mount import asking

pytestmark = pytest.mark.mount

PATIENCE_S = 60.0
"""Far more than any command takes, and far less than for ever."""


@pytest.fixture
def hanging(mount: Mount) -> Iterator[Mount]:
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    os.kill(mount.pid, signal.SIGSTOP)
    yield mount
    if is_alive(mount.pid):
        os.kill(mount.pid, signal.SIGCONT)


_SAY_THAT_IT_HANGS = (
    ("status", "{}"), ("status", "--perf", "{}"), ("wait", "{}"), ("top", "--once", "{}"), ("umount", "{}"),
    ("status", "{}/ingest"), ("status", "{}.link"),
)  # fmt: skip


def test_a_command_says_that_it_hangs(hanging: Mount) -> None:
    os.symlink(hanging.point, f"{hanging.point}.link")
    with ThreadPoolExecutor(len(_SAY_THAT_IT_HANGS)) as at_once:  # each waits for the daemon and does nothing else

        def run_it(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
            return zipfs(*(part.format(hanging.point) for part in command), timeout_s=PATIENCE_S)

        for command, done in zip(_SAY_THAT_IT_HANGS, at_once.map(run_it, _SAY_THAT_IT_HANGS), strict=True):
            assert done.returncode == 4, (command, done.stderr)
            assert done.stderr.count("\n") == 1
            assert "has not answered for" in done.stderr
            assert "zipfs umount --lazy" in done.stderr
    assert hanging.is_mounted()


@pytest.mark.parametrize("command", [("ls", "{}"), ("stat", "{}/file"), ("families", "{}"), ("cat", "{}/ingest/file")])
def test_what_the_store_can_tell_is_told_without_the_mount(hanging: Mount, command: tuple[str, ...]) -> None:
    done = zipfs(*(part.format(hanging.point) for part in command), timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_lazy_umount_asks_nothing(hanging: Mount) -> None:
    began_s = time.monotonic()
    done = zipfs("umount", "--lazy", hanging.point, timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began_s < asking.ANSWER_S
    assert not hanging.is_mounted()
    os.kill(hanging.pid, signal.SIGCONT)
    poll(lambda: not is_alive(hanging.pid), what="the daemon to end")
    hanging.fsck()


def test_nothing_is_mounted_over_it(hanging: Mount, tmp_path: Path) -> None:
    for point in (hanging.point, Path(f"{hanging.point}.link")):
        if not point.exists() and point != hanging.point:
            point.symlink_to(hanging.point)
        done = zipfs("mount", tmp_path / "other", point, timeout_s=PATIENCE_S)
        assert done.returncode in (4, 6)
        assert "mounted there already" in done.stderr or "has not answered" in done.stderr
        assert not (tmp_path / "other").exists()


def test_a_mount_that_answers_nonsense(tmp_path: Path) -> None:
    (tmp_path / ".zipfs").mkdir()
    for content in (b"{", b"[]", b"\xff", b"[" * 100_000, b"nul"):
        (tmp_path / ".zipfs" / "status.json").write_bytes(content)
        with pytest.raises(PathError, match="another version"):
            asking.ask_status(tmp_path)


def test_a_mount_that_goes_away_under_top(mount: Mount) -> None:
    top = subprocess.Popen(
        [sys.executable, "-m", "zipfs.cli", "top", "--interval", "0.2", mount.point],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert top.stdout is not None
    try:
        for line in top.stdout:
            if line.startswith("operation"):
                break
        mount.kill()
        _, errors = top.communicate(timeout=PATIENCE_S)
    finally:
        top.kill()
        top.communicate()
    assert top.returncode == 3
    assert errors.count("\n") == 1
    assert errors.startswith("zipfs: ")


@pytest.fixture
def bound(mount: Mount) -> Iterator[tuple[Mount, Path]]:
    """A mount and a directory to which something of it can be bound."""
    place = mount.point.with_name("bound")
    place.mkdir()
    yield mount, place
    subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def test_any_path_in_a_mount_tells_of_it(bound: tuple[Mount, Path]) -> None:
    mount, place = bound
    (mount.ingest / "model").mkdir()
    (mount.ingest / "model" / "file").write_bytes(b"content")
    mount.stored("model/file")
    run("mount", "--bind", mount.point / "model", place)
    for path in (place, place / "file", mount.point / "model", mount.ingest):
        status = zipfs("status", path)
        assert status.returncode == 0, status.stderr
        assert str(mount.store) in status.stdout
        assert zipfs("wait", path).returncode == 0
    run("umount", "-l", mount.point)
    refused = zipfs("status", place)
    assert refused.returncode == 3
    assert "its top nowhere" in refused.stderr
    run("umount", place)


def test_umount_says_where_else_it_is_mounted(bound: tuple[Mount, Path]) -> None:
    mount, place = bound
    run("mount", "--bind", mount.point, place)
    done = zipfs("umount", mount.point, timeout_s=PATIENCE_S)
    assert done.returncode == 4
    assert f"it is mounted at {place} as well" in done.stderr
    assert not mount.is_mounted()
    assert is_alive(mount.pid)
    assert zipfs("umount", place).returncode == 0
    poll(lambda: not is_alive(mount.pid), what="the daemon to end")


def test_umount_says_which_other_namespace_has_it(mount: Mount) -> None:
    # Of other tests' mounts it lets go.
    script = """
mount --make-rprivate /
awk -v keep="$1" '$3 == "fuse.zipfs" && $2 != keep { print $2 }' /proc/mounts | xargs -r umount -l
echo ready
exec sleep 300
"""
    command = ["unshare", "--mount", "sh", "-c", script, "-", str(mount.point)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"ready\n"
        done = zipfs("umount", mount.point, timeout_s=PATIENCE_S)
        assert done.returncode == 4
        assert f"({other.pid})" in done.stderr
        assert "mount namespace of" in done.stderr
    finally:
        other.kill()
        other.communicate()
    poll(lambda: not is_alive(mount.pid), what="the daemon to end")


def test_a_program_that_cannot_be_ended_is_left_alone(tmp_path: Path) -> None:
    began_s = time.monotonic()
    assert asking.run_within(["sleep", "300"], 0.1) is None
    assert time.monotonic() - began_s < PATIENCE_S
