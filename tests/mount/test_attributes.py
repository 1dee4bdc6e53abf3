"""Attributes of files and directories in both trees, as programs that copy and back up rely on them."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll_equal, run, zipfs

pytestmark = pytest.mark.mount

_CLAMPED_NS = (1 << 63) - 1
_GROUP = 1234


def _moves_ctime(path: Path, act: Callable[[], object]) -> bool:
    before = path.stat().st_ctime_ns
    act()
    return path.stat().st_ctime_ns > before


@pytest.fixture(params=["ingest", "served"])
def file(request: pytest.FixtureRequest, mounts: Callable[..., Mount]) -> Path:
    """A file that is not sealed, and one that is served and has no other name."""
    mount = mounts("--quiet", "3600" if request.param == "ingest" else "0.1").start()
    path = mount.ingest / "dir" / "file"
    path.parent.mkdir()
    path.write_bytes(b"content\n")
    if request.param == "ingest":
        return path
    mount.stored("dir/file")
    path.unlink()  # or that would be a second name
    return mount.point / "dir" / "file"


# What takes no room


def test_tar_s_archives_files_that_cost_nothing(mount: Mount, tmp_path: Path) -> None:
    """Small, large, and beside others of the same content; in both trees, and while they linger."""
    source = tmp_path / "model"
    source.mkdir()
    for name, nbytes in (("tiny", 3), ("config.json", 5000), ("weights.bin", 2_000_000)):
        (source / name).write_bytes(noise(nbytes, nbytes))
    for name in ("one", "two"):
        run("cp", "-r", source, mount.ingest / name)
        mount.wait()
    for top in (mount.point / "two", mount.ingest / "two"):
        assert all(path.stat().st_blocks > 0 for path in top.iterdir())
        run("tar", "-C", top, "-cSf", tmp_path / "archive.tar", ".")
        back = tmp_path / f"back-{top.parent.name}"
        back.mkdir()
        run("tar", "-C", back, "-xf", tmp_path / "archive.tar")
        run("diff", "-r", source, back)
    found = (mount.point / "two" / "weights.bin").stat()
    assert found.st_blocks * 512 < 4096, "yet du shows that it costs nothing"


def test_no_file_that_has_content_seems_to_be_one_hole(mount: Mount) -> None:
    """Not even one that tells of the mount itself."""
    for name in ("status.json", "perf.json", "metrics", "zipfs.log"):
        found = (mount.point / ".zipfs" / name).stat()
        assert found.st_size > 0
        assert found.st_blocks > 0
    (mount.ingest / "empty").touch()
    assert (mount.ingest / "empty").stat().st_blocks == 0


# Groups


def test_a_directory_with_the_set_group_id_bit_hands_on_its_group(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.2").start()
    for top in (mount.ingest / "team", mount.point / "other"):
        top.mkdir()
        os.chown(top, 0, _GROUP)
        top.chmod(0o2775)
        (top / "sub").mkdir()
        (top / "sub" / "deep").mkdir()
        (top / "link").symlink_to("aim")
        made = [top / "sub", top / "sub" / "deep", top / "link"]
        if top.parent == mount.ingest:
            (top / "file").write_bytes(b"x")
            os.mknod(top / "node", 0o644 | stat.S_IFREG)
            made += [top / "file", top / "node"]
        assert {path.lstat().st_gid for path in made} == {_GROUP}
        assert all(path.stat().st_mode & stat.S_ISGID for path in made[:2])
        assert not any(path.lstat().st_mode & stat.S_ISGID for path in made[2:])
    mount.served("team/file")
    served = mount.point / "team"
    poll_equal(lambda: (served.stat().st_gid, stat.S_IMODE(served.stat().st_mode)), (_GROUP, 0o2775))
    assert (served / "file").stat().st_gid == _GROUP


# Times


def test_a_time_of_access_is_kept_as_it_was_set(file: Path) -> None:
    os.utime(file, ns=(10**18 + 1, 2 * 10**18 + 2))
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (10**18 + 1, 2 * 10**18 + 2)
    file.read_bytes()
    assert file.stat().st_atime_ns == 10**18 + 1, "reading leaves it alone"
    assert _moves_ctime(file, lambda: os.utime(file, ns=(5, file.stat().st_mtime_ns)))
    assert file.stat().st_atime_ns == 5


def test_times_of_access_survive_seal_compression_and_remount(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts("--quiet", "0.2").start()
    source = tmp_path / "top"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(noise(10_000, 1))
    (source / "link").symlink_to("sub")
    times = {source / "sub" / "file": 1, source / "link": 2, source / "sub": 3, source: 4}
    for path, number in times.items():
        os.utime(path, ns=(10**18 + number, 2 * 10**18 + number), follow_symlinks=False)
    run("cp", "-a", source, mount.ingest / "top")

    def observe(top: Path) -> list[tuple[int, int]]:
        found = [(top / path.relative_to(source)).lstat() for path in times]
        return [(info.st_atime_ns, info.st_mtime_ns) for info in found]

    mount.wait()
    mount.remount()
    expected = [(10**18 + number, 2 * 10**18 + number) for number in times.values()]
    poll_equal(lambda: observe(mount.point / "top"), expected)
    mount.umount()
    assert zipfs("extract", mount.store, "top", tmp_path / "back").returncode == 0
    assert observe(tmp_path / "back") == expected


def test_a_file_from_the_future_was_changed_now(file: Path) -> None:
    os.utime(file, (3_600_000_000, 3_600_000_000))
    assert file.stat().st_mtime == 3_600_000_000
    assert abs(file.stat().st_ctime - time.time()) < 60


@pytest.mark.parametrize(("second", "kept_ns"), [(99_999_999_999, _CLAMPED_NS), (-99_999_999_999, -_CLAMPED_NS)])
def test_dates_that_no_store_can_keep_become_the_nearest_that_it_can(
    mounts: Callable[..., Mount], second: int, kept_ns: int
) -> None:
    """And hold up nothing: what has them is sealed, and so is the next."""
    mount = mounts("--quiet", "0.2").start()
    odd = mount.ingest / "odd"
    odd.mkdir()
    (odd / "file").write_bytes(b"x")
    (odd / "link").symlink_to("file")
    # What is not compressed yet has the mtime that the store's disk can keep: that of ext4 begins in 1901.
    (mount.store / "log" / "like").touch()
    os.utime(mount.store / "log" / "like", ns=(kept_ns, kept_ns))
    of_disk_ns = (mount.store / "log" / "like").stat().st_mtime_ns
    for path in (odd / "file", odd / "link", odd, mount.ingest):
        os.utime(path, (second, second), follow_symlinks=False)
        kept = path.lstat()
        assert (kept.st_atime_ns, kept.st_mtime_ns) == (kept_ns, of_disk_ns if path.name == "file" else kept_ns)
    served = mount.stored("odd/file")
    poll_equal(lambda: served.stat().st_mtime_ns, of_disk_ns)
    os.utime(served, (second, second))
    (mount.ingest / "next").write_bytes(b"y")
    assert mount.stored("next").read_bytes() == b"y"
    assert "damaged" not in mount.log()
    assert "Traceback" not in mount.log()


# The time of the last change of attributes and links


def test_links_move_the_time_of_change(file: Path) -> None:
    other = file.with_name("other")
    assert _moves_ctime(file, lambda: os.link(file, other))
    assert _moves_ctime(file, other.unlink)
    os.link(file, other)
    file.with_name("aside").symlink_to("x")
    assert _moves_ctime(file, lambda: os.rename(file.with_name("aside"), other))
    assert file.stat().st_nlink == 1


def test_extended_attributes_move_the_time_of_change(file: Path) -> None:
    assert _moves_ctime(file, lambda: os.setxattr(file, "user.a", b"1"))
    assert _moves_ctime(file, lambda: os.removexattr(file, "user.a"))
    assert _moves_ctime(file.parent, lambda: os.setxattr(file.parent, "user.a", b"1"))


def test_what_is_changed_on_one_side_is_seen_on_the_other_at_once(mounts: Callable[..., Mount]) -> None:
    """A mode above all: the kernel would let people in by what it remembers of the other path."""
    mount = mounts("--quiet", "0.1").start()
    here = mount.ingest / "file"
    here.write_bytes(b"x")
    there = mount.stored("file")
    for number, (one, other) in enumerate(((here, there), (there, here))):
        assert stat.S_IMODE(other.stat().st_mode) == stat.S_IMODE(one.stat().st_mode)
        one.chmod(0o600 + number)
        poll_equal(partial(_mode, other), 0o600 + number)


# Extended attributes of directories


def test_extended_attributes_of_directories_are_served(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts("--quiet", "0.2").start()
    top = tmp_path / "xs"
    (top / "dir" / "empty").mkdir(parents=True)
    (top / "dir" / "f").write_bytes(b"a")
    for path in (top, top / "dir", top / "dir" / "empty", top / "dir" / "f"):
        os.setxattr(path, "user.tag", path.name.encode())
        os.setxattr(path, "user.\udcff", b"\xff")
    run("cp", "-a", top, mount.ingest)
    for relative in ("", "dir", "dir/empty", "dir/f"):
        path = mount.served(f"xs/{relative}")
        poll_equal(partial(_tag, path), path.name.encode())
        assert os.getxattr(path, "user.\udcff") == b"\xff"
    # Changed and removed later, they follow, with new files and without.
    os.setxattr(mount.ingest / "xs", "user.tag", b"new")
    (mount.ingest / "xs").chmod(0o2750)
    poll_equal(lambda: os.getxattr(mount.point / "xs", "user.tag"), b"new")
    poll_equal(partial(_mode, mount.point / "xs"), 0o2750)
    (mount.ingest / "xs" / "g").write_bytes(b"g")
    os.removexattr(mount.ingest / "xs", "user.tag")
    (mount.ingest / "xs").chmod(0o750)
    poll_equal(lambda: os.listxattr(mount.point / "xs"), ["user.\udcff"])
    poll_equal(partial(_mode, mount.point / "xs"), 0o750)


def test_what_a_command_stores_and_gives_back_keeps_its_attributes(
    mounts: Callable[..., Mount], tmp_path: Path
) -> None:
    mount = mounts()
    top = tmp_path / "top"
    (top / "dir").mkdir(parents=True)
    (top / "dir" / "f").write_bytes(b"a")
    for path in (top, top / "dir", top / "dir" / "f"):
        os.setxattr(path, "user.tag", path.name.encode())
        os.chown(path, 77, _GROUP)
        path.chmod(0o2750 if path.is_dir() else 0o640)
    os.symlink("aim", top / "link")
    os.chown(top / "link", 78, _GROUP, follow_symlinks=False)
    for number, path in enumerate((top / "dir" / "f", top / "link", top / "dir", top)):
        os.utime(path, ns=(10**18 + number, -(10**18) + number), follow_symlinks=False)

    def observe(where: Path) -> list[object]:
        return [
            (path.name, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_atime_ns, _tag(path))
            for path in (where / "dir" / "f", where / "link", where / "dir")
            for info in (path.lstat(),)
        ]

    expected = observe(top)
    assert zipfs("ingest", mount.store, top, "--as", "a/b").returncode == 0
    mount.start()
    assert observe(mount.point / "a" / "b") == expected
    mount.umount()
    assert zipfs("extract", mount.store, "a/b", tmp_path / "back").returncode == 0
    assert observe(tmp_path / "back") == expected


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _tag(path: Path) -> bytes:
    return os.getxattr(path, "user.tag") if not path.is_symlink() and os.listxattr(path) else b""


# Limits


def test_values_at_their_limits_are_taken_or_refused_with_their_reason(mount: Mount) -> None:
    path = mount.ingest / "file"
    path.write_bytes(b"x")
    os.setxattr(path, "user.big", bytes(65536))
    assert len(os.getxattr(path, "user.big")) == 65536
    os.setxattr(path, "user." + "n" * 250, b"v")
    os.chown(path, 4_294_967_294, 4_294_967_294)
    assert (path.stat().st_uid, path.stat().st_gid) == (4_294_967_294, 4_294_967_294)
    os.chown(path, -1, -1)
    assert path.stat().st_uid == 4_294_967_294
    path.chmod(0o7777)
    assert stat.S_IMODE(path.stat().st_mode) == 0o7777
    with pytest.raises(OSError, match=r"too large|No space|Invalid") as refused:
        os.truncate(path, (1 << 63) - 1)
    assert refused.value.errno in (errno.EFBIG, errno.ENOSPC, errno.EINVAL)
    with path.open("r+b") as file, pytest.raises(OSError, match=r"too large|Invalid"):
        os.pwrite(file.fileno(), b"xy", (1 << 63) - 2)
    assert path.read_bytes() == b"x"
    for name in ("n" * 256, "\udcff" * 256):
        with pytest.raises(OSError, match="too long"):
            (mount.ingest / name).touch()
    served = mount.stored("file")
    assert served.stat().st_uid == 4_294_967_294
    assert len(os.getxattr(served, "user.big")) == 65536
    assert "damaged" not in mount.log()
    assert "Traceback" not in mount.log()


def test_a_served_file_can_be_opened_to_be_read_at_its_end(mount: Mount) -> None:
    """O_APPEND means nothing to who only reads."""
    (mount.ingest / "file").write_bytes(b"content")
    served = mount.stored("file")
    fd = os.open(served, os.O_RDONLY | os.O_APPEND)
    try:
        assert os.read(fd, 100) == b"content"
    finally:
        os.close(fd)


_REPLACE = """
import os, sys
top = sys.argv[1]
with open(top + "/write", "r+b") as file:
    file.write(b"x")
os.truncate(top + "/truncate", 1)
os.chown(top + "/chown", -1, 65534)
os.close(os.open(top + "/open", os.O_WRONLY | os.O_TRUNC))
"""


def test_what_a_user_replaces_does_not_run_as_somebody_else(mounts: Callable[..., Mount]) -> None:
    """Bits that let a file run as its owner go with the content that they were given to."""
    mount = mounts("--quiet", "3600", "--allow-other").start()
    plain = mount.store.parent / "plain"
    mount.store.parent.chmod(0o755)
    for top in (plain, mount.ingest / "top"):
        top.mkdir()
        top.chmod(0o777)
        for name in ("write", "truncate", "chown", "open"):
            (top / name).write_bytes(b"content")
            os.chown(top / name, 65534, 65534)
            (top / name).chmod(0o6777)
        run(
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "/usr/bin/env",
            "python3",
            "-c",
            _REPLACE,
            top,
        )
    for path in sorted(plain.iterdir()):
        poll_equal(partial(_mode, mount.ingest / "top" / path.name), _mode(path))
        assert _mode(path) == 0o777
