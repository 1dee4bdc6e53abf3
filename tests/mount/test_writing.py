"""Programs write in every way below ingest/, and what they wrote is what is served."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.mounts import Mount, noise, poll, poll_equal, python, run, zipfs

pytestmark = pytest.mark.mount


def test_random_writes(shared: Mount) -> None:
    """In no order, overlapping, with holes."""
    rng = random.Random(1)
    expected = bytearray(3_000_000)
    with open(shared.ingest / "random", "w+b", buffering=0) as file:
        for step in range(200):
            at = rng.randrange(len(expected) - 50_000)
            data = noise(rng.choice((1, 17, 4096, 50_000)), step)
            file.seek(at)
            file.write(data)
            expected[at : at + len(data)] = data
            if step % 20 == 0:
                size = os.fstat(file.fileno()).st_size
                assert os.pread(file.fileno(), size, 0) == expected[:size]
        file.truncate(len(expected))
    assert (shared.ingest / "random").read_bytes() == expected
    assert shared.stored("random").read_bytes() == expected


@pytest.mark.parametrize("how", ["path", "descriptor"])
def test_truncate_both_ways(shared: Mount, how: str) -> None:
    path = shared.ingest / f"truncated-{how}"
    with open(path, "w+b", buffering=0) as file:
        target = path if how == "path" else file.fileno()
        file.write(b"x" * 10_000)
        os.truncate(target, 5_000)
        assert os.fstat(file.fileno()).st_size == path.stat().st_size == 5_000
        os.truncate(target, 70_000)
        assert os.fstat(file.fileno()).st_size == path.stat().st_size == 70_000
        assert os.pread(file.fileno(), 70_000, 0) == b"x" * 5_000 + bytes(65_000)
        os.truncate(target, 6_000)
    assert path.read_bytes() == b"x" * 5_000 + bytes(1_000)
    assert shared.stored(path.name).read_bytes() == b"x" * 5_000 + bytes(1_000)


def test_rename_over_an_open_file(shared: Mount) -> None:
    old, new = shared.ingest / "over-old", shared.ingest / "over-new"
    with open(old, "w+b", buffering=0) as first, open(new, "wb", buffering=0) as second:
        first.write(b"old")
        second.write(b"new")
        os.rename(new, old)
        assert os.pread(first.fileno(), 10, 0) == b"old"
        first.write(b" goes on")
        assert os.pread(first.fileno(), 20, 0) == b"old goes on"
        assert os.fstat(first.fileno()).st_size == 11
        second.write(b" content")
    assert shared.stored("over-old").read_bytes() == b"new content"
    assert not new.exists()
    assert not (shared.point / "over-new").exists()


def test_unlink_while_open(shared: Mount) -> None:
    path = shared.ingest / "nameless"
    with open(path, "w+b", buffering=0) as file:
        file.write(b"before")
        path.unlink()
        assert not path.exists()
        file.write(b" and after")
        assert os.pread(file.fileno(), 100, 0) == b"before and after"
        info = os.fstat(file.fileno())
        assert (info.st_size, info.st_nlink) == (16, 0)
        os.ftruncate(file.fileno(), 6)
        assert os.fstat(file.fileno()).st_size == 6
        assert os.pread(file.fileno(), 100, 0) == b"before"
        os.ftruncate(file.fileno(), 1 << 20)
        assert os.fstat(file.fileno()).st_size == 1 << 20
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o600)
        os.utime(file.fileno())
    shared.wait()
    assert not (shared.point / "nameless").exists()


def test_temporary_file_without_a_name(shared: Mount) -> None:
    """O_TMPFILE is not there; programs fall back to a named one."""
    with pytest.raises(OSError, match="not supported"):
        os.open(shared.ingest, os.O_TMPFILE | os.O_RDWR, 0o600)


def test_modes_and_times_after_close(shared: Mount) -> None:
    path = shared.ingest / "late-mode"
    path.write_bytes(b"late")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 123))
    served = shared.stored("late-mode")
    assert served.stat().st_mtime_ns == 10**18 + 123
    assert served.stat().st_mode & 0o7777 == 0o640


def test_mode_of_an_open_file_without_write_permission(shared: Mount) -> None:
    """As install(1), cp and git write objects that are read-only."""
    descriptor = os.open(shared.ingest / "read-only-mode", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
    os.write(descriptor, b"object")
    os.close(descriptor)
    served = shared.stored("read-only-mode")
    assert served.read_bytes() == b"object"
    assert served.stat().st_mode & 0o777 == 0o444


def test_exclusive_create(shared: Mount) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(shared.ingest / "exclusive", flags))
    with pytest.raises(FileExistsError):
        os.open(shared.ingest / "exclusive", flags)
    shared.stored("exclusive")
    with pytest.raises(FileExistsError):
        os.open(shared.ingest / "exclusive", flags)


def test_written_as_safetensors_writes(shared: Mount) -> None:
    """A hidden temporary name, full size first, rename while open."""
    data = noise(2_500_000, 3)
    temporary, final = shared.ingest / ".tmpAbCdEf", shared.ingest / "by-hand.safetensors"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.ftruncate(descriptor, len(data))
    for at in range(0, len(data), 1 << 20):
        os.pwrite(descriptor, data[at : at + (1 << 20)], at)
    os.rename(temporary, final)
    os.close(descriptor)
    assert final.read_bytes() == data
    assert shared.stored("by-hand.safetensors").read_bytes() == data
    assert ".tmpAbCdEf" not in os.listdir(shared.point)


def test_save_file_of_safetensors(shared: Mount) -> None:
    rng = np.random.default_rng(4)
    tensors = {f"layer.{i}": rng.standard_normal((300, 400), np.float32) for i in range(3)}
    save_file(tensors, shared.ingest / "saved.safetensors")
    served = shared.stored("saved.safetensors")
    loaded = load_file(served)
    assert all(np.array_equal(loaded[name], tensor) for name, tensor in tensors.items())
    tensors["layer.1"] *= np.float32(1.0001)
    save_file(tensors, shared.ingest / "saved.safetensors")
    poll(lambda: np.array_equal(load_file(served)["layer.1"], tensors["layer.1"]), what="the new version")
    shared.stored("saved.safetensors")
    assert np.array_equal(load_file(served)["layer.1"], tensors["layer.1"])


def test_fine_tune_is_coded_against_its_base(shared: Mount) -> None:
    rng = np.random.default_rng(5)
    base = rng.standard_normal((1000, 500), np.float32)
    save_file({"w": base}, shared.ingest / "base.safetensors")
    shared.stored("base.safetensors")
    tuned = base * (1 + np.float32(1e-5) * rng.standard_normal(base.shape, np.float32))
    save_file({"other": tuned}, shared.ingest / "tuned.safetensors")
    served = shared.stored("tuned.safetensors")
    assert np.array_equal(load_file(served)["other"], tuned)
    assert os.getxattr(served, "user.zipfs.bases") == b"base.safetensors"
    assert float(os.getxattr(served, "user.zipfs.ratio")) < 0.75


def test_shared_writable_mapping(shared: Mount) -> None:
    path = shared.ingest / "mapped"
    data = noise(1 << 20, 6)
    with open(path, "w+b") as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), len(data)) as view:
            view[: 1 << 19] = data[: 1 << 19]
            view.flush()
            view[1 << 19 :] = data[1 << 19 :]
    assert shared.stored("mapped").read_bytes() == data


def test_mapping_that_outlives_its_descriptor(shared: Mount) -> None:
    """The last write arrives when the mapping goes, long after close."""
    path = shared.ingest / "outlived"
    data = noise(1 << 20, 7)
    with open(path, "w+b") as file:
        file.truncate(len(data))
        view = mmap.mmap(file.fileno(), len(data))
    view[: 1 << 19] = data[: 1 << 19]
    os.utime(shared.ingest)
    # A mapping holds the file open: it is not sealed under it, however long that takes.
    (shared.ingest / "elsewhere").mkdir()
    (shared.ingest / "elsewhere" / "file").touch()
    shared.stored("elsewhere/file")
    assert not (shared.point / "outlived").exists()
    view[1 << 19 :] = data[1 << 19 :]
    view.close()
    assert shared.stored("outlived").read_bytes() == data


def test_append(shared: Mount) -> None:
    path = shared.ingest / "appended"
    for i in range(50):
        with open(path, "ab") as file:
            file.write(f"{i}\n".encode())
    run("sh", "-c", 'echo end >> "$0"', path)
    expected = "".join(f"{i}\n" for i in range(50)) + "end\n"
    poll_equal(shared.stored("appended").read_text, expected)


def test_append_to_what_is_stored(shared: Mount) -> None:
    path = shared.ingest / "extended"
    path.write_bytes(b"one")
    served = shared.stored("extended")
    with open(path, "ab") as file:
        file.write(b" two")
    poll_equal(served.read_bytes, b"one two")


def test_overwriting_makes_a_new_version(shared: Mount) -> None:
    path = shared.ingest / "versions"
    old, new = noise(2_000_000, 8), noise(1_000_000, 9)
    path.write_bytes(old)
    served = shared.stored("versions")
    with open(served, "rb", buffering=0) as reader:
        assert reader.read(1000) == old[:1000]
        path.write_bytes(new)
        assert path.read_bytes() == new
        poll(lambda: served.stat().st_size == len(new), what="the new version")
        assert served.read_bytes() == new
        assert os.pread(reader.fileno(), len(old) + 1, 0) == old
        assert os.fstat(reader.fileno()).st_size == len(old)
        shared.stored("versions")
        assert os.pread(reader.fileno(), len(old) + 1, 0) == old
    assert served.read_bytes() == new


@pytest.mark.parametrize("state", ["sealed", "stored"])
def test_modifying_in_place(mount: Mount, state: str) -> None:
    """Opened for writing, sealed content is copied, and open(2) finds the copy by itself."""
    path = mount.ingest / "modified"
    data = bytearray(noise(3_000_000, 10))
    if state == "sealed":
        os.kill(mount.status()["worker_pid"], 19)  # SIGSTOP: nothing is compressed
    path.write_bytes(data)
    mode = path.stat().st_mode
    os.setxattr(path, "user.kept", b"yes")
    served = mount.stored("modified") if state == "stored" else mount.served("modified")
    assert mount.state(served) == state
    with open(path, "r+b") as file:
        file.seek(1_500_000)
        file.write(b"changed")
    data[1_500_000:1_500_007] = b"changed"
    assert path.read_bytes() == data
    poll(lambda: served.read_bytes() == data, what="the change")
    assert os.getxattr(served, "user.kept") == b"yes"
    assert served.stat().st_mode == mode
    if state == "sealed":
        os.kill(mount.status()["worker_pid"], 18)
    assert mount.stored("modified").read_bytes() == data


def test_two_writers_open_what_is_stored_at_once(mount: Mount) -> None:
    """Both get the same new version, and nothing is left over."""
    (mount.ingest / "both").write_bytes(bytes(1_000_000))
    os.link(mount.ingest / "both", mount.ingest / "both-too")
    mount.wait()
    code = (
        "import sys, os\n"
        "for i in range(30):\n"
        "    with open(sys.argv[1], 'r+b', buffering=0) as file:\n"
        "        os.pwrite(file.fileno(), sys.argv[2].encode(), 100 * i + int(sys.argv[2]))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, mount.ingest / name, str(i)], stderr=subprocess.PIPE)
        for i, name in enumerate(("both", "both", "both-too"))
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=180)
        assert writer.returncode == 0, said
    expected = bytearray(1_000_000)
    for step in range(30):
        expected[100 * step : 100 * step + 3] = b"012"
    mount.wait()
    poll_equal((mount.point / "both").read_bytes, bytes(expected))
    poll_equal((mount.point / "both-too").read_bytes, bytes(expected))
    poll(lambda: not os.listdir(mount.store / "spool"), what="the spool to be empty")


def test_truncating_what_is_stored_by_path(shared: Mount) -> None:
    path = shared.ingest / "shortened"
    data = noise(100_000, 11)
    path.write_bytes(data)
    served = shared.stored("shortened")
    os.truncate(path, 50_000)
    poll(lambda: served.stat().st_size == 50_000, what="the shorter version")
    assert served.read_bytes() == data[:50_000]
    os.truncate(path, 0)
    poll(lambda: served.stat().st_size == 0, what="the empty version")
    os.truncate(path, 10)
    poll(lambda: served.read_bytes() == bytes(10), what="the longer version")


def test_removing_a_lingering_entry_leaves_what_is_served(shared: Mount) -> None:
    """`rm -r` of what was copied in is a clean-up, not a deletion."""
    (shared.ingest / "tidy").mkdir()
    (shared.ingest / "tidy" / "file").write_bytes(b"kept")
    served = shared.stored("tidy/file")
    run("rm", "-r", shared.ingest / "tidy")
    assert served.read_bytes() == b"kept"
    assert not (shared.ingest / "tidy").exists()


@pytest.mark.parametrize("how", ["rm", "mv", "zipfs rm"])
def test_a_second_copy_of_what_was_removed_is_served_again(shared: Mount, tmp_path: Path, how: str) -> None:
    """It is not passed over for a lingering entry of the first one."""
    name = how.replace(" ", "-")
    source = tmp_path / name
    (source / "empty").mkdir(parents=True)
    (source / "file").write_bytes(b"content")
    run("rsync", "-a", source, shared.ingest)
    shared.wait()
    served = shared.served(f"{name}/empty").parent
    match how:
        case "rm":
            run("rm", "-r", served)
        case "mv":
            run("mv", served, shared.point / f"{name}-moved")
        case _:
            assert zipfs("rm", "-r", shared.store, name).returncode == 0
            poll(lambda: not served.exists(), what="the removal to be seen")
    poll(lambda: not (shared.ingest / name).exists(), what="the lingering entry to go")
    run("rsync", "-a", source, shared.ingest)
    assert shared.stored(f"{name}/file").read_bytes() == b"content"
    shared.served(f"{name}/empty")
    if how == "mv":
        assert (shared.point / f"{name}-moved" / "file").read_bytes() == b"content"


def test_moving_a_lingering_entry_moves_what_is_served(shared: Mount) -> None:
    (shared.ingest / "from").mkdir()
    (shared.ingest / "from" / "file").write_bytes(b"moves")
    shared.stored("from/file")
    run("mv", shared.ingest / "from", shared.ingest / "to")
    poll_equal(shared.served("to/file").read_bytes, b"moves")
    poll(lambda: not (shared.point / "from").exists(), what="the old place to go")


_HUB_DOWNLOAD = """
import fcntl, os, sys
from pathlib import Path
top, data = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
cache = top / ".cache" / "huggingface" / "download"
cache.mkdir(parents=True)
(top / ".cache" / "huggingface" / ".gitignore").write_text("*")
lock = os.open(cache / "model.bin.lock", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
part = cache / "x1y2.etag.incomplete"
with open(part, "ab") as file:
    file.write(data[:100000])
with open(part, "ab") as file:
    assert file.tell() == 100000
    for at in range(100000, len(data), 65536):
        file.write(data[at:at + 65536])
os.rename(part, top / "model.bin")
(cache / "model.bin.metadata").write_text("commit\\netag\\n0.5\\n")
fcntl.flock(lock, fcntl.LOCK_UN)
os.close(lock)
os.unlink(cache / "model.bin.lock")
"""


def test_hub_download(shared: Mount, tmp_path: Path) -> None:
    data = noise(1_000_000, 12)
    (tmp_path / "data").write_bytes(data)
    (shared.ingest / "hub").mkdir()
    python(_HUB_DOWNLOAD, shared.ingest / "hub", tmp_path / "data")
    assert shared.stored("hub/model.bin").read_bytes() == data
    shared.wait()
    assert os.listdir(shared.point / "hub") == ["model.bin"]


def test_locks_exclude_each_other(shared: Mount) -> None:
    with open(shared.ingest / "guard.lock", "wb") as one, open(shared.ingest / "guard.lock", "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (shared.ingest / "guard.lock").unlink()


def test_unfinished_names_wait_and_are_served_once_renamed(shared: Mount) -> None:
    names = ["a.incomplete", ".tmpXyZ123", "b.gguf.part", ".d.aB3xYz"]
    (shared.ingest / "half").mkdir()
    for name in names:
        (shared.ingest / "half" / name).write_bytes(name.encode())
    (shared.ingest / "half" / "whole").write_bytes(b"whole")
    shared.stored("half/whole")
    done = zipfs("wait", shared.point)
    assert done.returncode == 1
    for name in names:
        assert f"half/{name}: not served" in done.stderr
    assert os.listdir(shared.point / "half") == ["whole"]
    assert {f"half/{name}" for name in names} <= set(shared.status()["unfinished_files"])
    for i, name in enumerate(names):
        os.rename(shared.ingest / "half" / name, shared.ingest / "half" / f"done-{i}")
    shared.wait()
    for i, name in enumerate(names):
        assert (shared.point / "half" / f"done-{i}").read_bytes() == name.encode()


def test_git_clone(shared: Mount, tmp_path: Path) -> None:
    """Hardlinks, many small files, renames; the repository itself is never served."""
    source = tmp_path / "repository"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    run("git", "init", "-q", source, env=environment)
    for i in range(5):
        (source / f"file-{i}").write_text(f"content {i}\n" * 100)
    run("git", "-C", source, "add", ".", env=environment)
    author = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    run("git", "-C", source, *author, "commit", "-q", "-m", "first", env=environment)
    clone = shared.ingest / "cloned"
    run("git", "clone", "-q", "--no-local", source, clone, env=environment)
    assert run("git", "-C", clone, "status", "--porcelain", env=environment) == ""
    run("git", "-C", clone, "fsck", env=environment)
    run("git", "clone", "-q", "--local", clone, shared.ingest / "linked-clone", env=environment)
    shared.wait()
    for name in ("cloned", "linked-clone"):
        assert sorted(os.listdir(shared.point / name)) == [f"file-{i}" for i in range(5)]
        assert (shared.point / name / "file-3").read_bytes() == (source / "file-3").read_bytes()


def test_written_as_aria2_does(shared: Mount) -> None:
    """Full length first, pieces from several descriptors in random order, a control file beside it."""
    data = noise(2_000_000, 13)
    path, control = shared.ingest / "torrent.bin", shared.ingest / "torrent.bin.aria2"
    control.write_bytes(b"control")
    pieces = list(range(0, len(data), 1 << 14))
    random.Random(2).shuffle(pieces)
    descriptors = [os.open(path, os.O_CREAT | os.O_RDWR, 0o644) for _ in range(3)]
    try:
        os.ftruncate(descriptors[0], len(data))
        for i, at in enumerate(pieces):
            os.pwrite(descriptors[i % 3], data[at : at + (1 << 14)], at)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    control.unlink()
    assert shared.stored("torrent.bin").read_bytes() == data


def test_fallocate(shared: Mount) -> None:
    """posix_fallocate(3) has a fallback for file systems without fallocate(2)."""
    with open(shared.ingest / "allocated", "w+b", buffering=0) as file:
        file.write(b"abc")
        try:
            os.posix_fallocate(file.fileno(), 0, 100_000)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP
            file.truncate(100_000)
    assert shared.stored("allocated").read_bytes() == b"abc" + bytes(99_997)


def test_seek_for_holes_and_copy_file_range(shared: Mount, tmp_path: Path) -> None:
    """Not offered by the mount; the kernel and cp have fallbacks that must give the same bytes."""
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.write(b"start")
        file.seek(3 << 20)
        file.write(b"end")
    run("cp", "--sparse=always", "--reflink=auto", sparse, shared.ingest / "sparse")
    served = shared.stored("sparse")
    assert served.read_bytes() == sparse.read_bytes()
    with open(served, "rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == sparse.stat().st_size
    run("cp", served, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == sparse.read_bytes()


@pytest.mark.expected_log("was being written when the mount ended")
@pytest.mark.parametrize("acknowledged", ["close", "fsync"])
def test_what_was_acknowledged_survives_a_kill(mount: Mount, acknowledged: str) -> None:
    data = noise(3_000_000, 14)
    (mount.ingest / "deep" / "down").mkdir(parents=True)
    path = mount.ingest / "deep" / "down" / "file"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    for at in range(0, len(data), 300_000):
        os.write(descriptor, data[at : at + 300_000])
    os.setxattr(path, "user.note", b"kept")
    if acknowledged == "fsync":
        os.fsync(descriptor)
        mount.kill()
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.write(descriptor, b"more")
        try:
            os.close(descriptor)
        except OSError as error:
            assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    else:
        os.close(descriptor)
        mount.kill()
    mount.start()
    if acknowledged == "fsync":  # nobody has closed it: it may be cut short, and waits until somebody says what it is
        assert path.read_bytes() == data
        with open(path, "ab"):
            pass
    served = mount.stored("deep/down/file")
    assert served.read_bytes() == data
    assert os.getxattr(served, "user.note") == b"kept"
    mount.umount()
    mount.fsck()


def test_status_names_what_waits(shared: Mount) -> None:
    with open(shared.ingest / "growing", "wb") as file:
        file.write(b"x")
        file.flush()
        assert shared.status()["unsealed_files"] >= 1
        json.dumps(shared.status())
    shared.stored("growing")
