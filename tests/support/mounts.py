"""Real mounts for tests: started in processes of their own, and gone at the end whatever happened to them.

A test process never hangs in a mount: a watchdog aborts the connection when a mount lives longer than it may.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tests.support.daemon_logs import LOGS

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
RENAME_EXCHANGE, RENAME_WHITEOUT = 2, 4
MORE_OPTIONS = os.environ.get("ZIPFS_TEST_MOUNT_OPTIONS", "").split()
"""Of every mount that a test makes: such as --writeback-cache."""
DEADLINE_S = 60.0
_LIFE_S = 900.0


def zipfs(
    *arguments: object, timeout_s: float = 180.0, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end; `prefix` is put before it, to run it as somebody else."""
    command = [*prefix, sys.executable, "-m", "zipfs.cli", *map(_text, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False, cwd=REPOSITORY
    )


def _text(argument: object) -> str:
    return os.fsdecode(argument) if isinstance(argument, bytes) else str(argument)


def run(
    *command: object,
    timeout_s: float = 180.0,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
) -> str:
    """Run a program that has to succeed, unless told otherwise; its output."""
    done = subprocess.run(
        [_text(part) for part in command],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout_s,
        check=False,
        cwd=cwd,
        env=env,
    )
    assert not check or done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def python(code: str, *arguments: object, timeout_s: float = 180.0) -> str:
    """Run a Python program in a process of its own."""
    return run(sys.executable, "-c", code, *arguments, timeout_s=timeout_s, cwd=REPOSITORY)


def poll(condition: Callable[[], T], *, within_s: float = DEADLINE_S, what: str = "") -> T:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what or condition} did not come true within {within_s:.0f} s"
        time.sleep(0.01)


def poll_equal(look: Callable[[], T], expected: T, *, within_s: float = DEADLINE_S) -> None:
    """Wait until `look` answers as expected; show the difference if it never does."""
    deadline = time.monotonic() + within_s
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == expected


def exchange(one: Path, other: Path) -> None:
    """Let each have the other's place, in one step."""
    renameat2(one, other, RENAME_EXCHANGE)


def renameat2(one: Path, other: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


@contextmanager
def on_disk_of_its_own(mount: Mount, nbytes: int) -> Iterator[None]:
    """Start a mount that was not started yet with its store on a disk of so many bytes."""
    disk = mount.store.with_name("disk")
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={nbytes}", "none", disk)
    mount.store = disk / "store"
    try:
        mount.start()
        yield
    finally:
        mount.close()
        run("umount", disk)


def noise(nbytes: int, seed: int) -> bytes:
    """Bytes that no codec makes smaller."""
    return np.random.default_rng(seed).bytes(nbytes)


def sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(slots=True)
class Mount:
    """A store and where it is mounted. `prefix` runs every command of ours, such as `setpriv`."""

    store: Path
    point: Path
    options: tuple[object, ...] = ()
    prefix: tuple[str, ...] = ()
    pid: int = 0
    _watchdog: threading.Timer | None = field(default=None, repr=False)

    @property
    def ingest(self) -> Path:
        return self.point / "ingest"

    def start(self, *more: object) -> Mount:
        done = self.try_start(*more)
        assert done.returncode == 0, done.stderr
        self.pid = int(self.status()["pid"])
        return self

    def try_start(self, *more: object) -> subprocess.CompletedProcess[str]:
        self.guard()
        return zipfs("mount", *MORE_OPTIONS, self.store, self.point, *self.options, *more, prefix=self.prefix)

    def guard(self) -> None:
        """Let it live for so much longer."""
        self._unguard()
        self._watchdog = threading.Timer(_LIFE_S, self.abort)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _unguard(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def status(self) -> dict[str, Any]:
        found = json.loads((self.point / ".zipfs" / "status.json").read_bytes())
        assert isinstance(found, dict)
        return found

    @property
    def log_path(self) -> Path:
        return self.store / "log" / "zipfs.log"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait(self) -> str:
        """Until everything is compressed that is finished by its name; what the command says."""
        done = zipfs("wait", self.point, "--timeout", DEADLINE_S * 2)
        assert done.returncode == bool(self.status()["unfinished_files"]), done.stderr + self.log()[-2000:]
        return done.stdout + done.stderr

    def state(self, path: Path | str) -> str:
        """`open`, `sealed` or `stored`; empty where nothing is."""
        try:
            return os.getxattr(path, "user.zipfs.state").decode()
        except FileNotFoundError:
            return ""

    def served(self, name: str) -> Path:
        """The served file of that name, once it is there."""
        path = self.point / name
        poll(lambda: os.path.lexists(path), what=f"{name} to be served")
        return path

    def stored(self, name: str) -> Path:
        """The served file of that name, once it is compressed."""
        path = self.point / name
        poll(lambda: self.state(path) == "stored", what=f"{name} to be stored")
        return path

    def fsck(self) -> None:
        done = zipfs("fsck", self.store, "--read-data", prefix=self.prefix)
        assert done.returncode == 0, done.stdout + done.stderr

    def is_mounted(self) -> bool:
        return str(self.point) in _mount_points()

    def umount(self) -> None:
        done = zipfs("umount", self.point, prefix=self.prefix)
        assert done.returncode == 0, done.stderr
        self._unguard()

    def remount(self, *more: object) -> Mount:
        """Unmounted and mounted again: nothing is in any cache of this mount."""
        self.umount()
        return self.start(*more)

    def kill(self) -> None:
        """End the daemon as a crash would; the mount point stays behind."""
        os.kill(self.pid, signal.SIGKILL)
        poll(lambda: not _is_alive(self.pid), what="the daemon to end")

    def abort(self) -> None:
        """Answer everything that waits in the mount with an error, and take it away."""
        device = _mount_points().get(str(self.point))
        if device is not None:
            with suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{device.split(':')[1]}/abort").write_text("1")
            if self.pid and _is_alive(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            for flag in ("-f", "-l"):
                subprocess.run(["umount", flag, self.point], capture_output=True, timeout=20, check=False)

    def close(self) -> None:
        """In the end of a test, whatever state it left."""
        try:
            if self.is_mounted():
                with suppress(subprocess.TimeoutExpired):
                    zipfs("umount", self.point, prefix=self.prefix, timeout_s=15.0)
            self.abort()
            if self.pid:
                poll(lambda: not _is_alive(self.pid), what="the daemon to end")
        finally:
            self._unguard()


def _mount_points() -> dict[str, str]:
    """Path -> MAJOR:MINOR of every FUSE mount."""
    # Names of other mounts of this machine may be any bytes.
    lines = [line.split(" ") for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")]
    return {fields[4]: fields[2] for fields in lines if "fuse.zipfs" in fields}


def _is_alive(pid: int) -> bool:
    """A zombie is dead: whoever started it has not asked for it yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def is_alive(pid: int) -> bool:
    return _is_alive(pid)


def _removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


@contextmanager
def temporary_mounts(directory: Path) -> Iterator[Callable[..., Mount]]:
    """A maker of mounts below `directory`; all of them are gone at the end of the block, and the directory too."""
    made: list[Mount] = []

    def make(*options: object, name: str = "") -> Mount:
        name = name or f"m{len(made)}"
        point = directory / name
        point.mkdir()
        mount = Mount(directory / f"{name}.store", point, options or ("--quiet", "0.2"))
        made.append(mount)
        LOGS.watch(mount.log_path)
        return mount

    try:
        yield make
    finally:
        for mount in reversed(made):
            mount.close()
            LOGS.forget(mount.log_path)
        poll(lambda: _removed(directory), what="the last worker to let go of its store")
