"""A worker that keeps dying: it is told of, with its last words, and nobody waits for it for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, poll, zipfs

pytestmark = [pytest.mark.mount, pytest.mark.expected_log("the worker (ended with code|wrote)", "Fatal Python error")]


def test_a_system_that_forbids_all_tuning(mounts: Callable[..., Mount]) -> None:
    """With /proc and /sys read-only, as in a container, files are compressed and served all the same."""
    mount = mounts()
    script = """
set -e
mount --make-rprivate /
umount -a -l -t fuse.zipfs || true  # copies of mounts of other tests
mount -t proc proc /proc
mount -o remount,ro /proc
mount -o remount,ro,bind /sys 2>/dev/null || mount -t tmpfs -o ro none /sys
"$1" -m zipfs.cli mount "$2" "$3" --quiet 0.1
trap 'umount -l "$3"' EXIT
head -c 100000 /dev/urandom > "$3/ingest/file"
"$1" -m zipfs.cli wait --timeout 60 "$3"
test "$(getfattr --only-values -n user.zipfs.state "$3/file")" = stored
trap - EXIT
"$1" -m zipfs.cli umount "$3"
"""
    command = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", script, "-", sys.executable]
    done = subprocess.run(
        [*command, mount.store, mount.point],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the worker" not in mount.log()


def kill_each_worker(mount: Mount, times: int) -> None:
    seen: set[int] = set()
    for _ in range(times):
        worker = poll(lambda: mount.status()["worker_pid"] not in {None, *seen} and mount.status()["worker_pid"])
        seen.add(worker)
        os.kill(worker, signal.SIGKILL)
        poll(lambda: mount.status()["worker"].get("deaths") == len(seen))


def test_wait_ends_and_status_tells_when_the_worker_keeps_dying(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    # Of its work it gets as far as the first pack, each time.
    os.environ["ZIPFS_FAULT"] = "ingest.pack-synced"
    try:
        mount.start()
    finally:
        del os.environ["ZIPFS_FAULT"]
    (mount.ingest / "file").write_bytes(os.urandom(50_000))
    for place in (mount.point, mount.store):
        waited = zipfs("wait", place)
        assert waited.returncode == 1
        last = waited.stderr.splitlines()[-1]
        assert "the worker keeps dying: ended with code -9 (" in last
        assert "times in a row since" in last
    status = zipfs("status", mount.point)
    assert status.returncode == 0
    (line,) = [line for line in status.stdout.splitlines() if line.startswith("worker ")]
    assert "ended with code -9" in line
    assert (mount.point / "file").stat().st_size == 50_000


def test_the_last_words_of_a_worker_are_kept(mounts: Callable[..., Mount]) -> None:
    """In the log, and for `status`, whatever it is that cannot be foreseen: here its catalog cannot be opened."""
    mount = mounts().start()
    worker = poll(lambda: mount.status()["worker_pid"])
    marker = mount.store / "ZIPFS"
    marker.rename(mount.store / "ZIPFS.away")
    try:
        os.kill(worker, signal.SIGKILL)
        poll(lambda: mount.status()["worker"].get("deaths", 0) >= 2)
        status = zipfs("status", mount.point).stdout
        assert "it said: zipfs: " in status
        assert "it has no file ZIPFS" in status
        assert "the worker wrote: zipfs: " in mount.log()
    finally:
        (mount.store / "ZIPFS.away").rename(marker)
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    poll(lambda: "deaths" not in mount.status()["worker"])  # the worker tells of it after it is stored
    assert "\nworker " not in zipfs("status", mount.point).stdout


def test_a_worker_that_crashes_in_native_code_leaves_a_trace(mount: Mount) -> None:
    worker = poll(lambda: mount.status()["worker_pid"])
    poll(lambda: b"zipfs/codec" in Path(f"/proc/{worker}/maps").read_bytes())
    os.kill(worker, signal.SIGSEGV)
    poll(lambda: mount.status()["worker"].get("ended") == "ended with code -11")
    assert "Fatal Python error: Segmentation fault" in mount.log()
    assert "worker.py" in mount.log() or "commands/ingest.py" in mount.log()


def test_a_daemon_that_crashes_in_native_code_leaves_a_trace(mount: Mount) -> None:
    log = mount.store / "log" / "zipfs.log"
    with open(log, "a") as file:
        file.write("x" * (4 << 20) + "\n")  # so that it is rotated by the next line
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    assert log.with_name("zipfs.log.1").exists()
    os.kill(mount.pid, signal.SIGSEGV)
    poll(lambda: "Fatal Python error: Segmentation fault" in mount.log())


def test_one_death_is_nothing(mount: Mount) -> None:
    kill_each_worker(mount, 1)
    (mount.ingest / "file").write_bytes(b"content")
    assert zipfs("wait", mount.point).returncode == 0
