"""What the served tree refuses, the names that are the mount's own, and names of every kind."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll, run

pytestmark = pytest.mark.mount


def _refusal(change: Callable[..., object], *arguments: object) -> int | None:
    with pytest.raises(OSError, match=r"\[Errno") as refused:
        change(*arguments)
    return refused.value.errno


@pytest.mark.expected_log("files were refused here")
def test_content_cannot_be_written_where_a_mount_takes_none(mounts: Callable[..., Mount]) -> None:
    mount = mounts().start("--no-write")
    (mount.ingest / "fixed").write_bytes(b"fixed")
    served = mount.stored("fixed")
    top = mount.point
    assert _refusal(lambda: served.write_bytes(b"x")) == errno.EROFS
    assert _refusal(lambda: os.open(served, os.O_RDWR)) == errno.EROFS
    assert _refusal(lambda: os.open(served, os.O_WRONLY | os.O_APPEND)) == errno.EROFS
    assert _refusal(lambda: os.truncate(served, 0)) == errno.EROFS
    assert _refusal(lambda: (top / "new").write_bytes(b"x")) == errno.EROFS
    assert _refusal(lambda: os.mkfifo(top / "pipe")) == errno.EPERM
    assert _refusal(lambda: os.mkfifo(mount.ingest / "pipe")) == errno.EPERM
    assert served.read_bytes() == b"fixed"
    assert not (top / "new").exists()


def test_directories_can_be_made_moved_and_removed(shared: Mount) -> None:
    top = shared.point
    (top / "made" / "deep").mkdir(parents=True)
    (top / "made" / "deep").chmod(0o700)
    (top / "made" / "deep").rename(top / "made" / "moved")
    assert stat.S_IMODE((top / "made" / "moved").stat().st_mode) == 0o700
    assert _refusal((top / "made").rmdir) == errno.ENOTEMPTY
    assert _refusal(lambda: (top / "made").rename(top / "made" / "moved" / "in itself")) == errno.EINVAL
    (top / "made" / "moved").rmdir()
    (top / "made").rmdir()
    assert not (top / "made").exists()
    assert _refusal((top / "made").rmdir) == errno.ENOENT


def test_errors_of_rename(shared: Mount) -> None:
    top = shared.point
    (shared.ingest / "r").mkdir()
    for name in ("file", "other"):
        (shared.ingest / "r" / name).write_bytes(name.encode())
    shared.wait()
    (top / "r" / "full" / "sub").mkdir(parents=True)
    (top / "r" / "empty").mkdir()
    r = top / "r"
    assert _refusal(lambda: os.rename(r / "file", r / "empty")) == errno.EISDIR
    assert _refusal(lambda: os.rename(r / "empty", r / "file")) == errno.ENOTDIR
    assert _refusal(lambda: os.rename(r / "empty", r / "full")) == errno.ENOTEMPTY
    assert _refusal(lambda: os.rename(r / "absent", r / "x")) == errno.ENOENT
    os.rename(r / "full", r / "empty")
    assert (r / "empty" / "sub").is_dir()
    os.rename(r / "file", r / "file")
    run("mv", "--no-clobber", r / "file", r / "other", check=False)
    assert (r / "other").read_bytes() == b"other"
    run("mv", "--exchange", r / "file", r / "other", check=False)
    assert {(r / "file").read_bytes(), (r / "other").read_bytes()} == {b"file", b"other"}


def test_reserved_names(shared: Mount) -> None:
    top = shared.point
    assert _refusal(shared.ingest.rmdir) in (errno.EBUSY, errno.ENOTEMPTY)
    assert _refusal(lambda: shared.ingest.rename(top / "elsewhere")) == errno.EBUSY
    assert _refusal((top / ".zipfs").rmdir) in (errno.EBUSY, errno.EROFS)
    assert _refusal(lambda: (top / ".zipfs").rename(top / "elsewhere")) in (errno.EBUSY, errno.EROFS)
    (top / "mine").mkdir()
    assert _refusal(lambda: (top / "mine").rename(top / ".zipfs")) is not None
    assert _refusal(lambda: (top / "mine").rename(top / "ingest")) is not None
    assert _refusal((top / ".zipfs").mkdir) == errno.EEXIST
    assert _refusal((top / "ingest").mkdir) == errno.EEXIST
    assert _refusal(lambda: os.symlink("x", top / ".zipfs")) == errno.EEXIST
    for name in ("ingest", ".zipfs"):
        assert _refusal((shared.ingest / name).mkdir) == errno.EEXIST
        assert _refusal((shared.ingest / name).write_bytes, b"") == errno.EEXIST
    (shared.ingest / "file").write_bytes(b"")
    assert _refusal(lambda: (shared.ingest / "file").rename(shared.ingest / "ingest")) == errno.EEXIST
    (shared.ingest / "below").mkdir()
    (shared.ingest / "below" / "ingest").write_bytes(b"allowed")
    assert shared.stored("below/ingest").read_bytes() == b"allowed"
    assert shared.ingest.is_dir()
    (top / "mine").rmdir()


def test_the_directory_of_the_mount_itself(shared: Mount) -> None:
    own = shared.point / ".zipfs"
    assert ".zipfs" not in os.listdir(shared.point)
    assert sorted(os.listdir(own)) == ["metrics", "perf.json", "status.json", "zipfs.log"]
    status = json.loads((own / "status.json").read_bytes())
    assert status["pid"] == shared.pid
    assert set(status) >= {
        "queued_files", "queued_nbytes", "unsealed_files", "unfinished_files", "stored_files", "stored_raw_nbytes",
        "packs_nbytes", "hints", "errors", "worker",
    }  # fmt: skip
    assert "mounted" in (own / "zipfs.log").read_text()
    assert "mounted" in run("cat", own / "zipfs.log")
    assert run("tail", "-n", "1", own / "zipfs.log")
    for path in sorted(own.iterdir()):
        assert _refusal(path.write_bytes, b"") in (errno.EROFS, errno.EACCES)
        assert _refusal(path.unlink) == errno.EROFS
        assert _refusal(os.utime, path) == errno.EROFS
        assert os.listxattr(path) == []
    assert _refusal((own / "new").touch) == errno.EROFS
    assert _refusal((own / "absent").read_bytes) == errno.ENOENT
    assert _refusal(lambda: os.link(own / "zipfs.log", shared.ingest / "log")) in (errno.EROFS, errno.EXDEV)


_NAMES = [
    b"with\nnewline",
    b"not \xff\xfe utf-8",
    "ünï—cødé 模型 🤗".encode(),
    b"-rf",
    b"*?[a]$(touch x)`'\"\\",
    b" leading and trailing ",
    b"\x01\x7f\x1b[31m",
    b"x" * 255,
    b"..hidden",
    b"%s %d {0} {}",
]


def test_names_of_every_kind(mount: Mount) -> None:
    top = os.fsencode(mount.ingest) + b"/names"
    os.mkdir(top)
    for name in _NAMES:
        with open(top + b"/" + name, "wb") as file:
            file.write(name)
        os.mkdir(top + b"/dir-" + name[:200])
        os.symlink(name, top + b"/link-" + name[:200])
    mount.wait()
    served = os.fsencode(mount.point) + b"/names"
    expected = sorted([*_NAMES, *(prefix + name[:200] for name in _NAMES for prefix in (b"dir-", b"link-"))])
    poll(lambda: sorted(os.listdir(served)) == expected, what="all names")
    for name in _NAMES:
        with open(served + b"/" + name, "rb") as file:
            assert file.read() == name
        assert os.readlink(served + b"/link-" + name[:200]) == name
    assert json.loads((mount.point / ".zipfs" / "status.json").read_bytes())["stored_files"] == len(_NAMES)
    mount.remount()
    assert sorted(os.listdir(served)) == expected
    run("rm", "-r", served)
    mount.umount()
    mount.fsck()


def test_names_that_are_too_long(shared: Mount) -> None:
    for top in (shared.point, shared.ingest):
        assert _refusal((top / ("x" * 256)).mkdir) == errno.ENAMETOOLONG
        assert _refusal((top / ("x" * 256)).stat) == errno.ENAMETOOLONG


def test_deep_trees(shared: Mount) -> None:
    depth = 60
    path = shared.ingest.joinpath("deep", *(f"level-{i}" for i in range(depth)))
    path.mkdir(parents=True)
    (path / "bottom").write_bytes(b"bottom")
    served = shared.stored(os.fspath(path.relative_to(shared.ingest) / "bottom"))
    assert served.read_bytes() == b"bottom"
    (shared.point / "deep" / "level-0").rename(shared.point / "deep" / "moved")
    run("rm", "-r", shared.point / "deep")
    assert not (shared.point / "deep").exists()


def _cpu_s(mount: Mount) -> float:
    """What the daemon and its worker have spent on processors so far."""
    ticks = 0
    for pid in (mount.pid, mount.status()["worker_pid"]):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_the_work_for_a_file_does_not_grow_with_their_number(mount: Mount, tmp_path: Path) -> None:
    spent_s = {}
    for count in (200, 1000):
        source = tmp_path / str(count)
        source.mkdir()
        for i in range(count):
            (source / f"file-{i:04}").write_bytes(b"%d\n" % (count + i) * 10)
        served = mount.point / source.name
        began_s = _cpu_s(mount)
        run("cp", "-r", source, mount.ingest / source.name)
        mount.wait()
        assert len(os.listdir(served)) == count
        run("ls", "-l", served)
        run("diff", "-r", source, served)
        spent_s[count] = (_cpu_s(mount) - began_s) / count
        mount.remount()
        run("ls", "-l", served)
        run("diff", "-r", source, served)
    for count in spent_s:
        run("rm", "-r", mount.point / str(count))
    assert os.listdir(mount.point) == ["ingest"]
    # A quadratic cost would make it five times as much.
    assert spent_s[1000] < 2.5 * spent_s[200], spent_s


def _pack_of(mount: Mount) -> Path:
    (pack,) = (mount.store / "packs").rglob("*.pack")
    return pack


@pytest.mark.expected_log("(read|open): .* is damaged")
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_damage_is_an_error_of_one_file(mount: Mount, damage: str) -> None:
    (mount.ingest / "hurt").write_bytes(noise(500_000, 1))
    mount.stored("hurt")
    pack = _pack_of(mount)
    (mount.ingest / "well").write_bytes(noise(500_000, 2))
    well = mount.stored("well")
    mount.umount()
    if damage == "gone":
        pack.unlink()
    else:
        with open(pack, "r+b") as file:
            file.seek(250_000)
            before = file.read(1)
            file.seek(250_000)
            file.write(bytes([before[0] ^ 1]))
    mount.start()
    assert _refusal((mount.point / "hurt").read_bytes) == errno.EIO
    assert well.read_bytes() == noise(500_000, 2)
    assert len(os.listdir(mount.point)) == 3
    lines = [line for line in mount.log().splitlines() if "ERROR" in line]
    assert any(pack.name.removesuffix(".pack") in line for line in lines), lines
    assert "Traceback" not in mount.log()
    (mount.ingest / "later").write_bytes(noise(500_000, 1))
    assert mount.stored("later").read_bytes() == noise(500_000, 1)


@pytest.mark.expected_log("(read|open): .* is damaged")
def test_a_pack_that_vanishes_under_a_mount(mount: Mount) -> None:
    (mount.ingest / "hurt").write_bytes(noise(3_000_000, 1))
    hurt = mount.stored("hurt")
    os.truncate(_pack_of(mount), 100)
    with open(hurt, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert _refusal(lambda: file.read(3_000_000)) == errno.EIO
    (mount.ingest / "next").write_bytes(b"next")
    assert mount.stored("next").read_bytes() == b"next"
    assert "Traceback" not in mount.log()


@pytest.mark.expected_log("open: .* is damaged: it is missing", "could not store lost")
def test_a_spool_file_that_vanishes(mount: Mount) -> None:
    """The file says so for itself, and the queue goes on."""
    worker = mount.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        (mount.ingest / "lost").write_bytes(noise(100_000, 1))
        lost = mount.served("lost")
        for path in (mount.store / "spool").iterdir():
            path.unlink()
        (mount.ingest / "kept").write_bytes(b"kept")
        mount.served("kept")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert mount.stored("kept").read_bytes() == b"kept"
    assert _refusal(lost.read_bytes) == errno.EIO
    poll(lambda: [failure["path"] for failure in mount.status()["errors"]] == ["lost"], what="the failure to be told")
