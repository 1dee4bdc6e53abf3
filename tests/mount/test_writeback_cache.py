"""A mount with `--writeback-cache`: the kernel keeps what is written, its size and its times, and hands it on later."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll_equal, run

pytestmark = pytest.mark.mount

BOTH = pytest.mark.parametrize("top", ["ingest", ""])


@pytest.fixture
def mount(mounts: Callable[..., Mount]) -> Mount:
    return mounts("--writeback-cache", "--quiet", "0.3").start()


def _requests(mount: Mount) -> dict[str, int]:
    text = run("cat", mount.point / ".zipfs" / "metrics")
    lines = [line for line in text.splitlines() if line.startswith("zipfs_operation_duration_seconds_count{")]
    return {line.split('"')[1]: int(line.split()[-1]) for line in lines}


@BOTH
def test_small_writes_reach_the_mount_together(mount: Mount, top: str) -> None:
    content = noise(2 << 20, 1)
    with open(mount.point / top / "file", "wb", buffering=0) as file:
        file.writelines(content[offset : offset + 4096] for offset in range(0, len(content), 4096))
    assert 0 < _requests(mount)["write"] < len(content) // 4096 // 8
    assert (mount.point / top / "file").read_bytes() == content
    mount.wait()
    assert (mount.point / "file").read_bytes() == content
    mount.umount()
    mount.start()
    assert (mount.point / "file").read_bytes() == content


@BOTH
def test_what_close_has_taken_survives_a_kill(mount: Mount, top: str) -> None:
    content = noise(1_000_003, 1)
    (mount.point / top / "file").write_bytes(content)
    mount.kill()
    mount.start()
    assert (mount.point / top / "file").read_bytes() == content


def test_what_is_not_written_back_yet_is_lost_in_a_kill_and_told(mount: Mount) -> None:
    fd = os.open(mount.point / "file", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"written")
    os.fsync(fd)
    os.write(fd, b" and lost")
    mount.kill()
    with pytest.raises(OSError, match=r"not connected|abort") as told:
        os.fsync(fd)
    assert told.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    with suppress(OSError):
        os.close(fd)
    mount.start()
    assert (mount.point / "file").read_bytes().startswith(b"written")


@BOTH
def test_what_is_mapped_is_sealed_with_what_was_written_to_it(mount: Mount, top: str) -> None:
    """The last of it comes back when the file is unmapped, after its descriptor was closed."""
    path = mount.point / top / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 100_000)
    with mmap.mmap(fd, 100_000) as mapped:
        os.close(fd)
        for offset in range(0, 100_000, 1000):
            mapped[offset : offset + 4] = b"page"
        time.sleep(1)  # longer than it has to be quiet
        mapped[-4:] = b"last"
    expected = bytearray(100_000)
    for offset in range(0, 100_000, 1000):
        expected[offset : offset + 4] = b"page"
    expected[-4:] = b"last"
    mount.wait()
    assert (mount.point / "file").read_bytes() == expected


@BOTH
def test_appends_of_several_processes_are_all_there(mount: Mount, top: str) -> None:
    path = mount.point / top / "log"
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "for number in range(500):\n"
        "    os.write(fd, f'{sys.argv[2]} {number}\\n'.encode())\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(number)]) for number in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    expected = sorted(f"{writer} {number}" for writer in range(3) for number in range(500))
    assert sorted(path.read_text().splitlines()) == expected
    mount.wait()
    with open(mount.point / "log", "a") as file:
        file.write("one more\n")
    mount.wait()
    assert sorted((mount.point / "log").read_text().splitlines()) == sorted([*expected, "one more"])


def test_parts_of_pages_are_written_over_what_is_stored(mount: Mount) -> None:
    (mount.point / "file").write_bytes(noise(300_000, 1))
    mount.wait()
    offsets = (0, 5000, 100_001, 299_990, 300_100)
    with open(mount.point / "file", "r+b", buffering=0) as file:  # the kernel reads the rest of a page first
        for offset in offsets:
            os.pwrite(file.fileno(), b"0123456789", offset)
    expected = bytearray(noise(300_000, 1)) + bytes(110)
    for offset in offsets:
        expected[offset : offset + 10] = b"0123456789"
    assert (mount.point / "file").read_bytes() == expected
    fd = os.open(mount.point / "file", os.O_WRONLY)
    os.pwrite(fd, b"x", 7)
    os.close(fd)
    expected[7:8] = b"x"
    mount.wait()
    assert (mount.point / "file").read_bytes() == expected
    mount.umount()
    mount.start()
    assert (mount.point / "file").read_bytes() == expected


@BOTH
def test_times_are_those_of_the_writes(mount: Mount, top: str) -> None:
    path = mount.point / top / "file"
    began_ns = time.time_ns() - 20_000_000  # the kernel's clock of files is coarse
    path.write_bytes(b"content")
    after_ns = time.time_ns()
    written_ns = path.stat().st_mtime_ns
    assert began_ns <= written_ns <= after_ns
    os.utime(path, ns=(5, 1_000_000_007))
    assert path.stat().st_mtime_ns == 1_000_000_007
    mount.wait()
    mount.umount()
    mount.start()
    assert (mount.point / "file").stat().st_mtime_ns == 1_000_000_007
    (mount.point / "other").write_bytes(b"content")
    written_ns = (mount.point / "other").stat().st_mtime_ns
    mount.wait()
    mount.umount()
    mount.start()
    assert (mount.point / "other").stat().st_mtime_ns == written_ns


def test_a_full_disk_is_told_when_a_file_is_closed(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    reserve = free.f_bavail * free.f_frsize + (64 << 20)
    mount = mounts("--writeback-cache", "--reserve", str(reserve), "--quiet", "3600").start()
    fd = os.open(mount.point / "file", os.O_WRONLY | os.O_CREAT)
    os.write(fd, bytes(32 << 20))
    with pytest.raises(OSError, match="No space") as told:
        os.fsync(fd)
    assert told.value.errno == errno.ENOSPC
    os.close(fd)


def test_what_a_mount_tells_of_itself_is_read_whole(mount: Mount) -> None:
    """The kernel keeps the size of a file, but of those it is not asked."""
    before = run("cat", mount.point / ".zipfs" / "metrics")
    for number in range(20):
        (mount.point / f"file-{number}").write_bytes(b"content")
        os.setxattr(mount.point / f"file-{number}", "user.tag", b"x")
    after = run("cat", mount.point / ".zipfs" / "metrics")
    assert after.endswith("\n")
    assert after.splitlines()[-1].split()[0] == before.splitlines()[-1].split()[0]
    assert len(mount.status()) > 3


@pytest.fixture
def others(mounts: Callable[..., Mount]) -> Mount:
    """A mount that lets other users in."""
    mount = mounts("--writeback-cache", "--quiet", "3600", "--allow-other").start()
    mount.store.parent.chmod(0o755)
    return mount


def test_set_id_bits_go_with_a_write(others: Mount) -> None:
    path = others.point / "file"
    path.write_bytes(b"content")
    os.chown(path, 65534, 65534)
    path.chmod(0o6755)
    code = "import os, sys; fd = os.open(sys.argv[1], os.O_WRONLY); os.write(fd, b'x'); os.close(fd)"
    run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/env", "python3", "-c", code, path)
    poll_equal(lambda: path.stat().st_mode & 0o7777, 0o755)
    assert path.read_bytes() == b"xontent"
