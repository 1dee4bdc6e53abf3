"""From the moment it is sealed, a file can be read without a gap: from the spool, while it is compressed, and after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, noise, poll, poll_equal, run, zipfs

pytestmark = pytest.mark.mount

_READER = """
import mmap, os, random, sys
served, expected, stop, held = sys.argv[1], open(sys.argv[2], "rb").read(), sys.argv[3], sys.argv[4] == "held"
rng, rounds, states = random.Random(1), 0, []
file = None
while not os.path.exists(stop) or not rounds:
    try:
        if file is None or not held:
            file = open(served, "rb", buffering=0)
    except FileNotFoundError:
        assert not rounds, "it has gone"
        continue
    assert os.fstat(file.fileno()).st_size == len(expected)
    at = rng.randrange(len(expected))
    assert os.pread(file.fileno(), 70_000, at) == expected[at:at + 70_000], "wrong bytes"
    if rounds % 10 == 0:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), len(expected) + 1, 0) == expected, "wrong bytes"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert view[:] == expected, "wrong bytes in a mapping"
    if not held:
        assert os.path.getsize(served) == len(expected)
        file.close()
    rounds += 1
    state = os.getxattr(served, "user.zipfs.state")
    if state not in states:
        states.append(state)
print(b" ".join(states).decode())
"""


def _reader(served: Path, expected: Path, stop: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _READER, str(served), str(expected), str(stop), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


def test_no_gap_while_it_is_compressed(mount: Mount, tmp_path: Path) -> None:
    data, stop = tmp_path / "data", tmp_path / "stop"
    data.write_bytes(noise(6_000_000, 1) + bytes(2_000_000))
    worker = mount.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    readers = [_reader(mount.point / "model" / "file", data, stop, how) for how in ("held", "opened")]
    run("mkdir", mount.ingest / "model")
    run("cp", data, mount.ingest / "model" / "file")
    served = mount.served("model/file")
    assert mount.state(served) == "sealed"
    late = _reader(served, data, stop, "held")
    poll(lambda: os.getxattr(served, "user.zipfs.state") == b"sealed")
    os.kill(worker, signal.SIGCONT)
    mount.stored("model/file")
    poll(lambda: mount.status()["queued_files"] == 0, what="the spool to be freed")
    stop.touch()
    for reader in (*readers, late):
        output, errors = reader.communicate(timeout=180)
        assert reader.returncode == 0, errors
        assert output.split()[-1] in ("sealed", "stored")
    assert served.read_bytes() == data.read_bytes()


def test_no_gap_while_a_path_is_replaced(mount: Mount) -> None:
    """Whoever opens the path gets one version or the other, whole."""
    versions = [bytes([i]) * (200_000 + i) for i in range(8)]
    (mount.ingest / "replaced").write_bytes(versions[0])
    served = mount.stored("replaced")
    for version in versions[1:]:
        (mount.ingest / "replaced").write_bytes(version)

        def arrived(version: bytes = version) -> bool:
            found = served.read_bytes()
            assert found in versions
            return found == version

        poll(arrived, what="the next version")


def test_readers_of_all_versions_keep_them(mount: Mount) -> None:
    versions = [noise(300_000 + i, i) for i in range(5)]
    held = []
    try:
        for version in versions:
            (mount.ingest / "v").write_bytes(version)
            poll(lambda version=version: (mount.point / "v").exists() and (mount.point / "v").read_bytes() == version)  # type: ignore[misc]
            held.append(os.open(mount.point / "v", os.O_RDONLY))
        mount.wait()
        assert zipfs("gc", mount.store).returncode == 0
        for descriptor, version in zip(held, versions, strict=True):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(descriptor, 400_000, 0) == version
            assert os.fstat(descriptor).st_size == len(version)
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_a_removed_file_stays_with_its_readers(mount: Mount) -> None:
    data = noise(3_000_000, 3)
    (mount.ingest / "removed").write_bytes(data)
    served = mount.stored("removed")
    with open(served, "rb", buffering=0) as reader:
        served.unlink()
        assert zipfs("gc", mount.store).returncode == 0
        assert mount.status()["stored_files"] == 0
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(reader.fileno(), len(data) + 1, 0) == data
        info = os.fstat(reader.fileno())
        assert (info.st_nlink, info.st_size) == (0, len(data))
    assert not served.exists()


def test_other_processes_changes_appear(mount: Mount, tmp_path: Path) -> None:
    """An ingest, a removal and a collection by other processes, of paths that were looked up before."""
    source = tmp_path / "there"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"first")
    served = mount.point / "there" / "sub" / "file"
    assert not served.exists()
    assert os.listdir(mount.point) == ["ingest"]
    assert zipfs("ingest", mount.store, source).returncode == 0
    poll_equal(served.exists, True)
    assert sorted(os.listdir(mount.point)) == ["ingest", "there"]
    with open(served, "rb", buffering=0) as old:
        assert old.read() == b"first"
        (source / "sub" / "file").write_bytes(b"second, longer")
        (source / "sub" / "more").write_bytes(b"more")
        assert zipfs("ingest", mount.store, source).returncode == 0
        poll_equal(lambda: (served.stat().st_size, served.read_bytes()), (14, b"second, longer"))
        poll_equal(lambda: sorted(os.listdir(served.parent)), ["file", "more"])
        assert os.pread(old.fileno(), 100, 0) == b"first"
        assert os.fstat(old.fileno()).st_size == 5
        assert zipfs("rm", mount.store, "there/sub/file").returncode == 0
        poll_equal(served.exists, False)
        assert zipfs("gc", mount.store).returncode == 0
        os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(old.fileno(), 100, 0) == b"first"
    assert (served.parent / "more").read_bytes() == b"more"
    assert zipfs("rm", "-r", mount.store, "there").returncode == 0
    poll_equal(lambda: os.listdir(mount.point), ["ingest"])
    assert zipfs("ingest", mount.store, source).returncode == 0
    poll_equal(served.exists, True)
    assert served.read_bytes() == b"second, longer"


def test_an_open_file_follows_a_collection(mount: Mount) -> None:
    """`gc` moves what is left of a sparse pack to a new one, under readers."""
    stay, go = noise(1_000_000, 4), noise(5_000_000, 5)
    (mount.ingest / "set").mkdir()
    (mount.ingest / "set" / "stay").write_bytes(stay)
    (mount.ingest / "set" / "go").write_bytes(go)
    mount.wait()
    served = mount.point / "set" / "stay"
    with open(served, "rb", buffering=0) as reader:
        (mount.point / "set" / "go").unlink()
        before = mount.status()["packs_nbytes"]
        assert zipfs("gc", mount.store).returncode == 0
        assert mount.status()["packs_nbytes"] < before - 4_000_000
        for descriptor in (reader.fileno(),):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(descriptor, 2_000_000, 0) == stay
    mount.remount()
    assert served.read_bytes() == stay


@pytest.mark.parametrize("reading", ["--read-only"])
def test_a_read_only_mount_follows_a_writing_one(mounts: Callable[..., Mount], reading: str) -> None:
    writer = mounts().start()
    reader = mounts(reading)
    reader.store = writer.store
    reader.start()
    assert os.listdir(reader.point) == []
    (writer.ingest / "seen").write_bytes(b"seen")
    writer.stored("seen")
    poll_equal((reader.point / "seen").exists, True)
    assert (reader.point / "seen").read_bytes() == b"seen"
    (writer.ingest / "seen").write_bytes(b"seen again")
    poll_equal((reader.point / "seen").read_bytes, b"seen again")
    (writer.point / "seen").unlink()
    poll_equal((reader.point / "seen").exists, False)
