"""A store that is served, killed and served again; and what its log, its spool and its catalog say of it."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import re
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Final

import zipfs.mount.daemon  # noqa: F401  # so that each fork has it
from zipfs.cli.main import main as daemon_main
from zipfs.mount import points
from zipfs.store.directory import create_store
from zipfs.store.disk import faults
from zipfs.store.maintenance.check import check
from zipfs.store.store import open_store

OPTIONS: Final = ("--quiet", "0.05", "--no-optimize", "--cache-size", "64M", "--ingest-memory", "64M")
_FORK: Final = multiprocessing.get_context("fork")
_START_S: Final = 60.0
_END_S: Final = 60.0
_DELETED_S: Final = 3.0
_MNT_DETACH: Final = 2
_MESSAGE: Final = re.compile(rb"\d{4}-\d\d-\d\d [\d:,]+ (\d+) ([A-Z]+) (.*)")
_STORED: Final = re.compile(rb"zipfs.ingest.worker: stored ")


class Hangs(Exception):
    """Something does not answer, or does not come to its end."""


@dataclass(slots=True)
class Served:
    """A store and where it is served, by a daemon that is a child of this process."""

    store: Path
    point: Path
    options: tuple[str, ...] = OPTIONS
    daemon: ForkProcess | None = None
    _log_read: int = 0
    _log_number: int = 0
    """The inode of the log that was read so far."""
    counts: Counter[str] = field(default_factory=Counter)
    """What the log told: compressions, ends of workers."""
    trouble: list[str] = field(default_factory=list)
    """What it told that is no good news."""

    def make(self) -> None:
        self.point.mkdir()
        create_store(self.store)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Mount, and return when it answers. Raises Hangs."""
        read_end, write_end = os.pipe()
        said = self.store.with_name(f"{self.store.name}.said")
        arguments = [*self.options, "--daemon", f"--ready-fd={write_end}", "--", str(self.store), str(self.point)]
        self.daemon = _FORK.Process(
            target=_serve, args=(arguments, said, dict(environment or {}), read_end), daemon=True
        )
        self.daemon.start()
        os.close(write_end)
        try:
            ready, _, _ = select.select([read_end], [], [], _START_S)
            if not ready or not os.read(read_end, 1):
                if self.daemon.exitcode == -signal.SIGKILL:
                    return  # by a fault point that lies so early
                raise Hangs(f"the mount does not start: {said.read_text(errors='replace')[-2000:]}")
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        assert self.daemon is not None and self.daemon.pid is not None
        return self.daemon.pid

    def is_alive(self) -> bool:
        return self.daemon is not None and self.daemon.exitcode is None

    def workers(self) -> list[int]:
        """Return the children of the daemon."""
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def has_died(self, within_s: float) -> bool:
        """Return whether the daemon has ended, or ends soon."""
        assert self.daemon is not None
        self.daemon.join(within_s)
        return self.daemon.exitcode is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if not self.has_died(_END_S):
            raise Hangs("the daemon does not die")

    def detach(self) -> None:
        """Take away the mount of a daemon that has died."""
        libc = ctypes.CDLL(None, use_errno=True)
        while str(self.point) in mounted():
            if libc.umount2(os.fsencode(self.point), _MNT_DETACH) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), self.point)

    def umount(self) -> None:
        """Unmount in order. Raises Hangs."""
        os.kill(self.pid, signal.SIGTERM)
        if not self.has_died(_END_S):
            raise Hangs("the daemon does not end")
        assert self.daemon is not None
        if self.daemon.exitcode != 0:
            self.trouble.append(f"the daemon ended with {self.daemon.exitcode}")
        self.read_log()

    def abort(self) -> None:
        """Give up the mount: whoever waits in it gets an error, and its daemon ends."""
        abort(self.point)
        if self.is_alive():
            with suppress(Hangs):
                self.kill()
        with suppress(OSError):
            self.detach()

    def read_log(self) -> None:
        """Take what was logged since the last look."""
        path = self.store / "log" / "zipfs.log"
        try:
            with path.open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                if number != self._log_number:
                    self._log_number, self._log_read = number, 0
                file.seek(self._log_read)
                content = file.read()
        except FileNotFoundError:
            return
        content = content[: content.rfind(b"\n") + 1]
        self._log_read += len(content)
        for line in content.splitlines():
            found = _MESSAGE.match(line)
            if found is None or found[2] not in (b"INFO", b"DEBUG"):
                self.trouble.append(line.decode(errors="replace"))
            elif _STORED.match(found[3]):
                self.counts["compressed"] += 1

    def problems(self, *, read_data: bool = False) -> list[str]:
        """Return what a check of the store finds that is not harmless."""
        with open_store(self.store, read_only=True) as store:
            return [str(problem) for problem in check(store, read_data=read_data) if not problem.harmless]

    def left_in_spool(self) -> list[str]:
        """Return what lies in the spool for no file for some seconds: what goes is deleted after its row."""
        deadline = time.monotonic() + _DELETED_S
        while found := list(self._left_in_spool()):
            if time.monotonic() > deadline:
                return found
            time.sleep(0.02)
        return []

    def _left_in_spool(self) -> Iterator[str]:
        names = sorted(os.listdir(self.store / "spool"))
        with open_store(self.store, read_only=True) as store:
            known = {str(number) for number in store.catalog.spooled()}
        for name in names:
            if name not in known and (self.store / "spool" / name).exists():
                yield f"spool/{name} belongs to no file"

    def wait_until_stored(self, within_s: float) -> bool:
        """Wait until nothing waits to be sealed or compressed, without asking the mount; whether that came true."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with open_store(self.store, read_only=True) as store:
                if not store.catalog.spooled():
                    return True
            time.sleep(0.05)
        return False


def _serve(arguments: list[str], said: Path, environment: dict[str, str], read_end: int) -> None:
    """Be the daemon, in a fork of whoever starts it: to import it anew each time would take longer than all else."""
    os.close(read_end)
    os.setsid()
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    importlib.reload(faults)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    sys.argv[1:] = ["mount", *arguments]
    daemon_main()


def mounted() -> dict[str, str]:
    """Return path -> MAJOR:MINOR of every mount of ZipFS."""
    lines = [line.split(" ") for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")]
    return {fields[4]: fields[2] for fields in lines if "fuse.zipfs" in fields}


def abort(point: Path) -> None:
    """Answer everything that waits in a mount with an error."""
    found = points.find(str(point))
    if found is not None:
        with suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{found.device.split(':')[1]}/abort").write_text("1")
