"""Files and directories without a name that somebody still has open, and listings of what changes meanwhile."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.mounts import (
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
    Mount,
    noise,
    poll,
    poll_equal,
    renameat2,
    run,
    temporary_mounts,
    zipfs,
)

pytestmark = [
    pytest.mark.mount,
    pytest.mark.expected_log("files were refused here"),
]


@contextmanager
def opened(path: Path | str, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _alter(fd: int) -> None:
    """Change all attributes of a file that has no name any more, and find them changed."""
    os.fchmod(fd, 0o640)
    os.fchown(fd, 7, 8)
    os.utime(fd, ns=(10**18 + 1, 10**18 + 2))
    os.setxattr(fd, "user.new", b"value")
    found = os.fstat(fd)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 7, 8)
    assert (found.st_atime_ns, found.st_mtime_ns, found.st_nlink) == (10**18 + 1, 10**18 + 2, 0)
    assert os.getxattr(fd, "user.new") == b"value"
    assert "user.new" in os.listxattr(fd)
    os.removexattr(fd, "user.new")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(fd, "user.new")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount in which nothing is sealed."""
    with temporary_mounts(tmp_path_factory.mktemp("calm")) as make:
        yield make("--quiet", "3600").start()


def test_a_file_that_is_written_keeps_its_attributes_without_a_name(calm: Mount) -> None:
    path = calm.ingest / "unlinked"
    path.write_bytes(b"before")
    os.setxattr(path, "user.old", b"kept")
    with opened(path, os.O_RDWR) as fd, opened(path) as reader:
        path.unlink()
        _alter(fd)
        assert os.getxattr(reader, "user.old") == b"kept"
        assert stat.S_IMODE(os.fstat(reader).st_mode) == 0o640, "every handle shows what one has changed"
        with opened(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
            os.pwrite(again, b"BEF", 0)
            os.ftruncate(again, 5)
        assert os.pread(fd, 100, 0) == b"BEFor"
        assert os.fstat(fd).st_size == 5
    path.write_bytes(b"another")
    assert os.listxattr(path) == []
    assert "Traceback" not in calm.log()
    assert "damaged" not in calm.log()


@pytest.mark.parametrize("by", ["unlink", "rename over", "zipfs rm"])
def test_a_served_file_keeps_its_attributes_without_a_name(mounts: Callable[..., Mount], by: str) -> None:
    mount = mounts("--quiet", "0.1").start()
    content = noise(100_000, 1)
    (mount.ingest / "file").write_bytes(content)
    path = mount.stored("file")
    (mount.ingest / "file").unlink()  # or it would have a name still
    with opened(path) as fd:
        if by == "unlink":
            path.unlink()
        elif by == "rename over":
            (mount.point / "link").symlink_to("x")
            os.rename(mount.point / "link", path)
        else:
            assert zipfs("rm", mount.store, "file").returncode == 0
            poll(lambda: not path.exists(), what="the removal to be seen")
        _alter(fd)
        assert os.fstat(fd).st_size == len(content)
        with opened(f"/proc/self/fd/{fd}") as again:
            os.close(os.dup(again))
            assert os.pread(again, len(content), 0) == content
        assert os.pread(fd, len(content), 0) == content
        with pytest.raises(OSError, match="Stale"):
            os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    assert "Traceback" not in mount.log()


def test_an_attribute_of_what_another_process_removes_is_refused_as_on_a_disk(calm: Mount) -> None:
    path, found, done = calm.ingest / "race", set(), threading.Event()

    def set_attributes() -> None:
        while not done.is_set():
            try:
                os.setxattr(path, "user.a", b"1")
            except OSError as error:
                found.add(error.errno)

    thread = threading.Thread(target=set_attributes)
    thread.start()
    for _ in range(150):
        path.write_bytes(b"x")
        path.unlink()
    done.set()
    thread.join()
    assert found <= {errno.ENOENT}
    assert "damaged" not in calm.log()


@pytest.mark.parametrize("served", [False, True])
def test_a_directory_that_is_gone_is_empty(calm: Mount, served: bool) -> None:
    path = (calm.point if served else calm.ingest) / "gone"
    path.mkdir()
    with opened(path) as fd:
        path.rmdir()
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(fd) == []
        os.fchmod(fd, 0o700)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o700
        with pytest.raises(FileNotFoundError):
            os.mkdir("sub", dir_fd=fd)
        with pytest.raises(FileNotFoundError):
            os.symlink("aim", "link", dir_fd=fd)


@pytest.mark.parametrize("served", [False, True])
def test_an_open_directory_shows_what_is_in_it_now(calm: Mount, served: bool) -> None:
    path = (calm.point if served else calm.ingest) / "watched"
    path.mkdir()
    with opened(path) as fd:
        (path / "a").mkdir()
        assert os.listdir(fd) == ["a"]
        (path / "b").symlink_to("x")
        (path / "a").rmdir()
        assert os.listdir(fd) == ["b"]
        (path / "b").unlink()
        assert os.listdir(fd) == []


def test_a_listing_has_the_directory_and_its_parent(calm: Mount) -> None:
    (calm.ingest / "top" / "sub").mkdir(parents=True)
    for path in (calm.point, calm.ingest, calm.ingest / "top", calm.ingest / "top" / "sub", calm.point / ".zipfs"):
        lines = {name: number for number, name in map(str.split, run("ls", "-ia", path).splitlines())}
        assert int(lines["."]) == path.stat().st_ino
        if path != calm.point:
            assert int(lines[".."]) == path.parent.stat().st_ino
        assert ".." in lines
        assert len(lines) == len(os.listdir(path)) + 2
    assert os.path.samefile(calm.point / ".zipfs" / "..", calm.point)


# Making files


def test_a_regular_file_can_be_made_as_a_node(calm: Mount) -> None:
    os.mknod(calm.ingest / "node", 0o640 | stat.S_IFREG)
    assert (calm.ingest / "node").read_bytes() == b""
    (calm.ingest / "node").write_bytes(b"text")
    assert (calm.ingest / "node").read_bytes() == b"text"
    with pytest.raises(FileExistsError):
        os.mknod(calm.ingest / "node", 0o640 | stat.S_IFREG)
    os.mknod(calm.point / "node", 0o640 | stat.S_IFREG)
    assert (calm.point / "node").read_bytes() == b""
    with pytest.raises(PermissionError):
        os.mkfifo(calm.ingest / "pipe")


def test_an_open_file_takes_one_descriptor(calm: Mount) -> None:
    (calm.ingest / "many").mkdir()

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{calm.pid}/fd"))

    before = descriptors()
    fds = [os.open(calm.ingest / "many" / str(n), os.O_RDWR | os.O_CREAT) for n in range(100)]
    fds += [os.open(calm.ingest / "many" / str(n), os.O_RDONLY) for n in range(100)]
    assert descriptors() - before <= 110
    for fd in fds:
        os.close(fd)
    poll(lambda: descriptors() - before <= 10, what="descriptors to be closed")


def test_a_file_that_cannot_be_opened_is_not_made(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.2")
    mount.prefix = ("prlimit", "--nofile=200:200")
    mount.start()
    directory = mount.ingest / "dir"
    directory.mkdir()
    fds = list(_open_until_refused(directory))
    assert len(fds) > 100
    names = sorted(f"f{n}" for n in range(len(fds)))
    for fd in fds:
        os.close(fd)
    assert sorted(os.listdir(directory)) == names
    poll_equal(lambda: sorted(os.listdir(mount.point / "dir")) if (mount.point / "dir").exists() else [], names)


def _open_until_refused(directory: Path) -> Iterator[int]:
    try:
        for number in itertools.count():
            yield os.open(directory / f"f{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except OSError as error:
        assert error.errno == errno.EMFILE


# Exchanging


def test_names_are_exchanged(calm: Mount) -> None:
    top = calm.ingest / "swap"
    (top / "dir" / "sub").mkdir(parents=True)
    (top / "a").write_bytes(b"A")
    (top / "b").write_bytes(b"B")
    renameat2(top / "a", top / "b", RENAME_EXCHANGE)
    assert ((top / "a").read_bytes(), (top / "b").read_bytes()) == (b"B", b"A")
    renameat2(top / "a", top / "dir", RENAME_EXCHANGE)
    assert (top / "dir").read_bytes() == b"B"
    assert (top / "a" / "sub").is_dir()
    assert sorted(os.listdir(top)) == ["a", "b", "dir"]
    with pytest.raises(OSError, match="Invalid"):
        renameat2(top / "a", top / "a" / "sub", RENAME_EXCHANGE)
    with pytest.raises(FileNotFoundError):
        renameat2(top / "a", top / "nothing", RENAME_EXCHANGE)
    with pytest.raises(OSError, match="Invalid"):
        renameat2(top / "b", top / "c", RENAME_WHITEOUT)
    assert (top / "b").exists()
    served = calm.point / "served"
    served.mkdir()
    with pytest.raises(OSError, match="Invalid"):
        renameat2(served, calm.point / "moved", RENAME_WHITEOUT)
    assert served.is_dir()


def test_what_is_sealed_is_exchanged_where_it_is_served_too(mounts: Callable[..., Mount]) -> None:
    """One of the two may not be sealed yet, or served with more than `ingest/` shows."""
    mount = mounts("--quiet", "0.2", "--linger", "86400").start()
    for name in ("one", "two"):
        (mount.ingest / name).mkdir()
        (mount.ingest / name / "file").write_bytes(name.encode())
        (mount.ingest / name / f"of-{name}").write_bytes(name.encode())
    for name in ("one", "two"):
        mount.stored(f"{name}/file")
        mount.stored(f"{name}/of-{name}")

    def observe() -> dict[str, bytes]:
        found = sorted(path for path in mount.point.glob("*/*") if path.parent.name in ("one", "two"))
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found if path.exists()}

    renameat2(mount.ingest / "one" / "file", mount.ingest / "two" / "file", RENAME_EXCHANGE)
    swapped = {"one/file": b"two", "one/of-one": b"one", "two/file": b"one", "two/of-two": b"two"}
    poll_equal(observe, swapped)
    renameat2(mount.ingest / "one", mount.ingest / "two", RENAME_EXCHANGE)
    poll_equal(observe, {"one/file": b"one", "one/of-two": b"two", "two/file": b"two", "two/of-one": b"one"})
    (mount.ingest / "one" / "fresh").write_bytes(b"fresh")
    renameat2(mount.ingest / "one" / "fresh", mount.ingest / "two" / "file", RENAME_EXCHANGE)
    poll_equal(lambda: observe().get("two/file", b""), b"fresh")
    poll_equal(lambda: observe().get("one/fresh", b""), b"two")
    assert "Traceback" not in mount.log()
    mount.umount()
    mount.fsck()


def test_paths_of_the_store_belong_to_whoever_stores(mounts: Callable[..., Mount]) -> None:
    """What lies above a model is made as mkdir -p makes it, so that its owner can go on there."""
    mount = mounts()
    mount.store.parent.chmod(0o777)
    source = mount.store.parent / "m"
    source.mkdir()
    (source / "f").write_bytes(b"x")
    for path in (source, source / "f"):
        os.chown(path, 65534, 65534)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = zipfs("ingest", mount.store, source, "--as", "org/deep/m", prefix=nobody)
    assert done.returncode == 0, done.stderr
    mount.start()
    for name in ("org", "org/deep", "org/deep/m", "org/deep/m/f"):
        found = (mount.point / name).stat()
        assert (found.st_uid, found.st_gid) == (65534, 65534)
