"""Mounting, unmounting, and what is left when processes are killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, is_alive, noise, poll, run, sha256, zipfs

pytestmark = pytest.mark.mount


def test_mount_returns_when_it_answers(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    assert mount.try_start().returncode == 0
    assert os.listdir(mount.point) == ["ingest"]
    assert json.loads((mount.point / ".zipfs" / "status.json").read_bytes())["store"] == str(mount.store)


def test_a_second_mount_needs_read_only(mounts: Callable[..., Mount]) -> None:
    mount, other = mounts().start(), mounts()
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    other.store = mount.store
    refused = other.try_start()
    assert refused.returncode == 4
    assert "mounted already" in refused.stderr
    assert "--read-only" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not other.is_mounted()
    again = mount.try_start()
    assert again.returncode in (4, 6)
    assert "mounted" in again.stderr
    assert mount.is_mounted()
    other.start("--read-only")
    assert (other.point / "file").read_bytes() == b"content"


def test_a_read_only_mount_refuses_every_change(mounts: Callable[..., Mount]) -> None:
    mount = mounts().start()
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    mount.umount()
    mount.start("--read-only")
    assert os.listdir(mount.point) == ["file"]
    path = mount.point / "file"
    changes: list[Callable[[], object]] = [
        path.unlink,
        lambda: path.rename(mount.point / "other"),
        lambda: path.chmod(0o600),
        lambda: os.utime(path),
        lambda: os.truncate(path, 0),
        lambda: open(path, "ab").close(),
        (mount.point / "new").touch,
        (mount.point / "dir").mkdir,
        lambda: (mount.point / "soft").symlink_to("x"),
        lambda: os.link(path, mount.point / "hard"),
        lambda: os.setxattr(path, "user.x", b"y"),
        (mount.ingest / "new").touch,
    ]
    for change in changes:
        with pytest.raises(OSError, match=r"Read-only|No such file") as refused:
            change()
        assert refused.value.errno == errno.EROFS or "ingest" in str(refused.value)
    assert path.read_bytes() == b"content"


def test_a_read_only_mount_of_a_store_on_read_only_media(mounts: Callable[..., Mount]) -> None:
    mount = mounts().start()
    (mount.ingest / "file").write_bytes(noise(100_000, 1))
    mount.stored("file")
    mount.umount()
    media = mounts("--read-only")
    media.store = media.point.with_name("media")
    media.store.mkdir()
    run("mount", "--bind", mount.store, media.store)
    try:
        run("mount", "-o", "remount,bind,ro", media.store)
        media.start()
        assert (media.point / "file").read_bytes() == noise(100_000, 1)
        media.umount()
    finally:
        media.close()
        run("umount", media.store)


def _refused(store: Path, point: Path) -> str:
    done = zipfs("mount", store, point)
    assert done.returncode in (3, 6), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("zipfs: ")
    return done.stderr


def test_places_that_cannot_be_mounted(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_bytes(b"precious")
    (tmp_path / "point").mkdir()
    missing = _refused(tmp_path / "store", tmp_path / "missing")
    assert "missing: it does not exist" in missing
    assert not (tmp_path / "store").exists()
    assert "file: it is not a directory" in _refused(tmp_path / "store", tmp_path / "file")
    assert "is a file" in _refused(tmp_path / "file", tmp_path / "point")
    assert "precious" in _refused(tmp_path / "full", tmp_path / "point")
    assert os.listdir(tmp_path / "full") == ["precious"]
    assert "below" in _refused(tmp_path / "file" / "below", tmp_path / "point")
    for point in (tmp_path / "point", tmp_path):
        assert "disappear below it" in _refused(tmp_path / "point", point)
    absent = zipfs("mount", tmp_path / "absent", tmp_path / "point", "--read-only")
    assert absent.returncode == 3
    assert not (tmp_path / "absent").exists()


def test_a_mount_point_named_through_a_symlink(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts()
    link = tmp_path / "link"
    link.symlink_to(mount.point)
    assert zipfs("mount", mount.store, link).returncode == 0
    mount.pid = mount.status()["pid"]
    assert "mounted there already" in zipfs("mount", mount.store, link).stderr
    assert zipfs("wait", link).returncode == 0
    mount.kill()
    assert zipfs("mount", mount.store, link).returncode == 0
    mount.pid = mount.status()["pid"]
    done = zipfs("umount", link)
    assert done.returncode == 0, done.stderr
    assert not mount.is_mounted()


def test_names_that_mountinfo_escapes(mounts: Callable[..., Mount]) -> None:
    mount = mounts(name="with space\\and\ttab")
    mount.start()
    (mount.ingest / "file").write_bytes(b"x")
    mount.stored("file")
    mount.kill()
    mount.start()
    assert (mount.point / "file").read_bytes() == b"x"
    mount.umount()
    assert os.listdir(mount.point) == []


def test_umount_names_who_is_busy(mounts: Callable[..., Mount]) -> None:
    mount = mounts().start()
    (mount.ingest / "file").write_bytes(b"busy")
    served = mount.stored("file")
    reader = subprocess.Popen(["tail", "-f", str(served)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    try:
        assert reader.stdout.read(4) == b"busy"
        refused = zipfs("umount", mount.point)
        assert refused.returncode == 4
        assert f"tail ({reader.pid})" in refused.stderr
        assert "--lazy" in refused.stderr
        assert served.read_bytes() == b"busy"
        assert zipfs("umount", mount.point, "--lazy").returncode == 0
        assert not mount.is_mounted()
        assert is_alive(mount.pid)
    finally:
        reader.kill()
        reader.communicate()
    poll(lambda: not is_alive(mount.pid), what="the daemon to end with its last reader")


_BUSY_WRITER = """
import os, sys
made = 0
try:
    while True:
        with open(f"{sys.argv[1]}/file-{made}", "wb") as file:
            file.write(os.urandom(200_000))
        made += 1
        print(made, flush=True)
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(9)
"""
_BUSY_READER = """
import os, sys
expected = open(sys.argv[2], "rb").read()
try:
    while True:
        with open(sys.argv[1], "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == expected
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(9)
"""


def _busy(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY)


def _under_load(mount: Mount, tmp_path: Path, stop: Callable[[], None]) -> int:
    """Stop a mount while a reader and a writer are at it; how many files the writer was told are written."""
    data = tmp_path / "data"
    data.write_bytes(noise(3_000_000, 2))
    run("cp", data, mount.ingest / "big")
    mount.stored("big")
    (mount.ingest / "many").mkdir()
    reader, writer = _busy(_BUSY_READER, mount.point / "big", data), _busy(_BUSY_WRITER, mount.ingest / "many")
    assert writer.stdout is not None
    try:
        for _ in range(20):
            writer.stdout.readline()
        stop()
        said, _ = writer.communicate(timeout=180)
        assert writer.returncode == 9
        reader.communicate(timeout=180)
        assert reader.returncode == 9
    finally:
        for process in (reader, writer):
            process.kill()
            process.communicate()
    return max([20, *map(int, said.split())])


def test_sigterm_unmounts_under_load(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts()
    command = [sys.executable, "-m", "zipfs.cli", "mount", "-f", "--quiet", "0.2", str(mount.store), str(mount.point)]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY)
    mount.pid = daemon.pid
    try:
        poll(mount.is_mounted, what="the mount")
        poll((mount.point / ".zipfs" / "status.json").exists)
        worker = poll(lambda: mount.status()["worker_pid"])

        def stop() -> None:
            daemon.send_signal(signal.SIGTERM)
            _, errors = daemon.communicate(timeout=180)
            assert daemon.returncode == 0, errors

        files = _under_load(mount, tmp_path, stop)
    finally:
        daemon.kill()
        daemon.communicate()
    assert not mount.is_mounted()
    assert os.listdir(mount.point) == []
    assert not is_alive(worker)
    mount.start()
    mount.wait()
    assert len(os.listdir(mount.point / "many")) >= files
    assert sha256(mount.point / "big") == sha256(tmp_path / "data")
    mount.umount()
    mount.fsck()


@pytest.mark.expected_log(r"many/file-\d+ was being written when the mount ended; it waits below ingest/")
def test_kill_of_the_daemon_under_load(mount: Mount, tmp_path: Path) -> None:
    """Readers and writers get errors and no hangs; the next mount clears up, and what was acknowledged is there."""
    worker = mount.status()["worker_pid"]
    files = _under_load(mount, tmp_path, mount.kill)
    poll(lambda: not is_alive(worker), what="the worker to end with the daemon")
    with pytest.raises(OSError, match="not connected"):
        os.listdir(mount.point)
    answer = zipfs("status", mount.point)
    assert answer.returncode == 3
    assert "Mount it again" in answer.stderr
    assert "Traceback" not in answer.stderr
    mount.start()
    for path in (mount.ingest / "many").iterdir():
        if int(path.name.removeprefix("file-")) >= files:
            path.unlink()  # what was being written is kept aside, and the rest of its directory with it
    mount.wait()
    names = os.listdir(mount.point / "many")
    assert len(names) >= files
    assert all((mount.point / "many" / f"file-{i}").stat().st_size == 200_000 for i in range(files))
    assert sha256(mount.point / "big") == sha256(tmp_path / "data")
    mount.umount()
    mount.fsck()


def test_umount_clears_what_a_killed_daemon_left(mount: Mount) -> None:
    mount.kill()
    assert mount.is_mounted()
    done = zipfs("umount", mount.point)
    assert done.returncode == 0
    assert not mount.is_mounted()


@pytest.mark.expected_log("the worker ended with code -9; it is started again")
def test_kill_of_the_worker(mount: Mount) -> None:
    """It is started again, and the queue goes on."""
    worker = mount.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    data = noise(2_000_000, 3)
    (mount.ingest / "file").write_bytes(data)
    served = mount.served("file")
    os.kill(worker, signal.SIGKILL)
    assert served.read_bytes() == data
    mount.stored("file")
    assert mount.status()["worker_pid"] not in (None, worker)
    assert served.read_bytes() == data
    assert "the worker ended with code -9" in mount.log()


def test_wait_in_every_place(mount: Mount) -> None:
    assert zipfs("wait", mount.point).returncode == 0
    assert zipfs("wait", mount.store).returncode == 0
    worker = mount.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        (mount.ingest / "file").write_bytes(b"waits")
        for place in (mount.point, mount.store):
            late = zipfs("wait", place, "--timeout", "0.7")
            assert late.returncode == 4
            assert "still waiting" in late.stderr
    finally:
        os.kill(worker, signal.SIGCONT)
    for place in (mount.point, mount.store):
        assert zipfs("wait", place).returncode == 0
        assert mount.state(mount.point / "file") == "stored"


@pytest.mark.expected_log("the worker ended with code -9; it is started again")
def test_wait_for_an_unmounted_store(mount: Mount, tmp_path: Path) -> None:
    worker = mount.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    (mount.ingest / "file").write_bytes(b"waits")
    mount.served("file")
    os.kill(worker, signal.SIGKILL)
    mount.umount()
    refused = zipfs("wait", mount.store)
    assert refused.returncode == 3
    assert "nothing compresses them" in refused.stderr
    assert zipfs("ingest", mount.store).returncode == 0
    assert zipfs("wait", mount.store).returncode == 0
    nothing = zipfs("wait", tmp_path)
    assert nothing.returncode == 3
    assert "Traceback" not in nothing.stderr


@pytest.mark.expected_log("the worker ended with code -9; it is started again")
def test_what_is_in_the_queue_is_taken_up_by_the_next_mount(mount: Mount) -> None:
    worker = mount.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    (mount.ingest / "queued").write_bytes(noise(1_000_000, 4))
    mount.served("queued")
    (mount.ingest / "half.incomplete").write_bytes(b"half")
    os.kill(worker, signal.SIGKILL)
    mount.umount()
    mount.start()
    assert (mount.point / "queued").read_bytes() == noise(1_000_000, 4)
    mount.stored("queued")
    assert (mount.ingest / "half.incomplete").read_bytes() == b"half"
    mount.umount()
    mount.fsck()
    assert len(os.listdir(mount.store / "spool")) == 1


def test_mount_in_front_says_why_it_ends(mounts: Callable[..., Mount]) -> None:
    mount, other = mounts().start(), mounts()
    refused = zipfs("mount", "-f", mount.store, other.point)
    assert refused.returncode == 4
    assert "mounted already" in refused.stderr
    assert "Traceback" not in refused.stderr
