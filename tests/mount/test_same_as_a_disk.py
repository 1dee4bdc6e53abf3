"""Random operations below `ingest/` and in a plain directory: both must answer alike, to the byte and the errno."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, exchange, noise, poll_equal, zipfs

pytestmark = pytest.mark.mount

_NAMES = ("a", "b", "c", "d/a", "d/b", "e/a", "e/f/a")
_DIRECTORIES = ("d", "e", "e/f", "g")
_NBYTES = 300_000


@dataclass(slots=True)
class Side:
    """One of the two directories, and what is open there."""

    top: Path
    files: dict[int, int] = field(default_factory=dict)

    def close(self) -> None:
        for descriptor in self.files.values():
            os.close(descriptor)
        self.files.clear()


Step = Callable[[Side], object]


def _open(slot: int, name: str, flags: int) -> Step:
    def step(side: Side) -> object:
        if slot in side.files:
            os.close(side.files.pop(slot))
        side.files[slot] = os.open(side.top / name, flags, 0o644)
        return os.fstat(side.files[slot]).st_size

    return step


def _close(slot: int) -> Step:
    def step(side: Side) -> object:
        os.close(side.files.pop(slot))
        return None

    return step


def _on_file(slot: int, work: Callable[[int], object]) -> Step:
    def step(side: Side) -> object:
        return work(side.files[slot])

    return step


def _on_path(work: Callable[[Path], object]) -> Step:
    return lambda side: work(side.top)


def _mapped(at: int, data: bytes) -> Callable[[int], object]:
    def work(descriptor: int) -> object:
        size = os.fstat(descriptor).st_size
        if at + len(data) > size:
            return "too short"
        with mmap.mmap(descriptor, size) as view:
            view[at : at + len(data)] = data
        return os.pread(descriptor, size, 0)

    return work


def _stat(path: Path) -> object:
    info = path.lstat()
    # Directories count their own sizes and links in many ways.
    return (oct(info.st_mode), *(() if path.is_dir() else (info.st_size, info.st_nlink)))


def _dated(file: Path | int, atime_ns: int, mtime_ns: int) -> object:
    os.utime(file, ns=(atime_ns, mtime_ns))
    info = os.stat(file)
    return info.st_atime_ns, info.st_mtime_ns


def _attributes(descriptor: int) -> object:
    info = os.fstat(descriptor)
    return oct(info.st_mode), info.st_nlink, {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}


def _read_again(descriptor: int, at: int) -> bytes:
    """What whoever opens a file by another's descriptor reads, whether it has a name or not."""
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        return os.pread(again, 50_000, at)
    finally:
        os.close(again)


def _tree(top: Path) -> list[tuple[str, str, bytes]]:
    """(path, kind, content) of everything, in order."""
    found = []
    for path in sorted(top.rglob("*")):
        if path.is_symlink():
            kind, content = "link", os.fsencode(os.readlink(path))
        elif path.is_dir():
            kind, content = "directory", b""
        else:
            kind, content = "file", path.read_bytes()
        found.append((os.fspath(path.relative_to(top)), kind, content))
    return found


def _choose(rng: random.Random, *, seals: bool) -> tuple[str, Step]:
    """One step, and how to name it.

    Where seals fall in between, two things differ on purpose: who only reads keeps the version that he opened, and a
    second name of a file that is written again is seen to lead to the new version a moment later.
    """
    slot, name, other = rng.randrange(4), rng.choice(_NAMES), rng.choice(_NAMES)
    directory, target = rng.choice(_DIRECTORIES), rng.choice(_DIRECTORIES)
    at, size = rng.randrange(_NBYTES), rng.choice((0, 1, 100, 4096, 5000, 70_000))
    data = noise(size, rng.randrange(1000))
    flags = rng.choice((
        os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_EXCL,
        os.O_RDWR if seals else os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND, os.O_RDWR | os.O_TRUNC,
    ))  # fmt: skip
    steps: dict[str, tuple[int, Step]] = {
        f"open {slot} {name} {flags:#o}": (14, _open(slot, name, flags)),
        f"close {slot}": (4, _close(slot)),
        f"pwrite {slot} {at} {size}": (14, _on_file(slot, lambda fd: os.pwrite(fd, data, at))),
        f"write {slot} {size}": (6, _on_file(slot, lambda fd: os.write(fd, data))),
        f"pread {slot} {at}": (10, _on_file(slot, lambda fd: os.pread(fd, 50_000, at))),
        f"read {slot}": (4, _on_file(slot, lambda fd: os.read(fd, 10_000))),
        f"ftruncate {slot} {at}": (6, _on_file(slot, lambda fd: os.ftruncate(fd, at))),
        f"fstat {slot}": (6, _on_file(slot, lambda fd: (os.fstat(fd).st_size, os.fstat(fd).st_nlink))),
        f"fsync {slot}": (1, _on_file(slot, os.fsync)),
        f"map {slot} {at} {size}": (4, _on_file(slot, _mapped(at, data))),
        f"truncate {name} {at}": (4, _on_path(lambda top: os.truncate(top / name, at))),
        f"stat {name}": (6, _on_path(lambda top: _stat(top / name))),
        f"stat {directory}": (1, _on_path(lambda top: _stat(top / directory))),
        f"read all {name}": (4, _on_path(lambda top: (top / name).read_bytes())),
        f"unlink {name}": (4, _on_path(lambda top: (top / name).unlink())),
        f"unlink {directory}": (1, _on_path(lambda top: (top / directory).unlink())),
        f"rename {name} {other}": (6, _on_path(lambda top: os.rename(top / name, top / other))),
        f"rename {directory} {target}": (3, _on_path(lambda top: os.rename(top / directory, top / target))),
        f"rename {name} {directory}": (1, _on_path(lambda top: os.rename(top / name, top / directory))),
        f"link {name} {other}": (0 if seals else 3, _on_path(lambda top: os.link(top / name, top / other))),
        f"symlink {other} {name}": (1, _on_path(lambda top: (top / name).symlink_to(other))),
        f"readlink {name}": (1, _on_path(lambda top: os.readlink(top / name))),
        f"mkdir {directory}": (4, _on_path(lambda top: (top / directory).mkdir())),
        f"rmdir {directory}": (3, _on_path(lambda top: (top / directory).rmdir())),
        f"list {directory}": (2, _on_path(lambda top: sorted(os.listdir(top / directory)))),
        f"chmod {name}": (1, _on_path(lambda top: (top / name).chmod(0o600 + slot))),
        f"setxattr {name}": (1, _on_path(lambda top: os.setxattr(top / name, "user.k", data[:50]))),
        f"getxattr {name}": (1, _on_path(lambda top: os.getxattr(top / name, "user.k"))),
        f"utime {name}": (2, _on_path(lambda top: _dated(top / name, at, size))),
        f"futime {slot}": (2, _on_file(slot, lambda fd: _dated(fd, at, size))),
        f"fchmod {slot}": (2, _on_file(slot, lambda fd: os.fchmod(fd, 0o600 + slot))),
        f"attributes {slot}": (4, _on_file(slot, _attributes)),
        f"fsetxattr {slot}": (2, _on_file(slot, lambda fd: os.setxattr(fd, "user.f", data[:50]))),
        f"open again {slot}": (2, _on_file(slot, lambda fd: _read_again(fd, at))),
        f"mknod {name}": (1, _on_path(lambda top: os.mknod(top / name, 0o644))),
        f"exchange {name} {other}": (3, _on_path(lambda top: exchange(top / name, top / other))),
        f"exchange {directory} {target}": (1, _on_path(lambda top: exchange(top / directory, top / target))),
        "tree": (2, _on_path(_tree)),
    }
    ((what, (_, step)),) = rng.choices(list(steps.items()), [weight for weight, _ in steps.values()])
    return what, step


def _answer(side: Side, step: Step) -> object:
    try:
        return step(side)
    except OSError as error:
        return error.errno
    except KeyError:
        return "not open"


@pytest.mark.parametrize("quiet_s", ["0.05", "60"])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations(mounts: Callable[..., Mount], tmp_path: Path, seed: int, quiet_s: str) -> None:
    """With everything open, and with seal and compression falling between any two steps."""
    mount = mounts("--quiet", quiet_s).start()
    top = mount.ingest / "top"
    top.mkdir()
    plain, here = Side(tmp_path), Side(top)
    rng = random.Random(f"{seed} {quiet_s}")
    done: list[str] = []
    try:
        for _ in range(700):
            what, step = _choose(rng, seals=quiet_s != "60")
            done.append(what)
            expected, found = _answer(plain, step), _answer(here, step)
            assert found == expected, f"after {done[-25:]}"
    finally:
        for side in (plain, here):
            with suppress(OSError):
                side.close()
    assert _tree(top) == _tree(plain.top), done[-25:]
    if quiet_s != "60":
        zipfs("wait", mount.point)
        served = mount.point / "top"
        # What was removed below ingest/ is still served, and may be in the way of a file or directory of that name.
        in_the_way = {failure["path"].removeprefix("top/") for failure in mount.status()["errors"]}
        for name, kind, content in _tree(plain.top):
            if kind == "file" and name not in in_the_way:
                poll_equal((served / name).read_bytes, content)
    assert "Traceback" not in mount.log()
    mount.umount()
    mount.fsck()


_CHURN = """
import os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
for step in range(250):
    own, shared = f"{top}/own-{seed}-{rng.randrange(3)}", f"{top}/shared-{rng.randrange(3)}"
    data = bytes([seed]) * rng.randrange(1, 50_000)
    with open(own, "wb") as file:
        file.write(data)
    with open(own, "rb") as file:
        assert file.read() == data, "another process wrote into a file of ours"
    match rng.randrange(5):
        case 0:
            os.rename(own, shared)
        case 1:
            os.unlink(own)
        case 2:
            try:
                with open(shared, "rb") as file:
                    found = file.read()
                assert len(set(found)) == 1, f"mixed bytes: {set(found)}"
            except FileNotFoundError:
                pass
        case 3:
            os.listdir(top)
        case 4:
            os.truncate(own, len(data) // 2)
            assert os.path.getsize(own) == len(data) // 2
"""


def test_two_processes_at_once(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.05").start()
    top = mount.ingest / "churned"
    top.mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", _CHURN, top, str(seed)], stderr=subprocess.PIPE, cwd=REPOSITORY)
        for seed in (1, 2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=180)
        assert process.returncode == 0, said.decode()
    mount.wait()
    # What was sealed in a pause and removed afterwards is still served, so there may be more than that.
    for name, kind, content in _tree(top):
        assert kind == "file"
        assert (mount.point / "churned" / name).read_bytes() == content
    assert "Traceback" not in mount.log()
