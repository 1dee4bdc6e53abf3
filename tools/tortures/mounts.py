"""A store that is served, killed and served again; and what its log, its spool and its catalog say of it."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zipfs.host import own_command
from zipfs.mount import points
from zipfs.store.directory import create_store
from zipfs.store.maintenance.check import check
from zipfs.store.store import open_store

OPTIONS: Final = ("--quiet", "0.05", "--no-optimize", "--cache-size", "64M", "--ingest-memory", "64M")
_START_S: Final = 60.0
_END_S: Final = 60.0
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
    daemon: subprocess.Popen[bytes] | None = None
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
        command = own_command(
            "mount", *self.options, "--daemon", f"--ready-fd={write_end}", "--", str(self.store), str(self.point)
        )
        said = self.store.with_name(f"{self.store.name}.said")
        with said.open("wb") as file:
            self.daemon = subprocess.Popen(
                command, env={**os.environ, **(environment or {})}, cwd="/", stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, pass_fds=[write_end], start_new_session=True,
            )  # fmt: skip
        os.close(write_end)
        try:
            ready, _, _ = select.select([read_end], [], [], _START_S)
            if not ready or not os.read(read_end, 1):
                if self.daemon.poll() == -signal.SIGKILL:
                    return  # by a fault point that lies so early
                raise Hangs(f"the mount does not start: {said.read_text(errors='replace')[-2000:]}")
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        assert self.daemon is not None
        return self.daemon.pid

    def is_alive(self) -> bool:
        return self.daemon is not None and self.daemon.poll() is None

    def workers(self) -> list[int]:
        """Return the children of the daemon."""
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def has_died(self, within_s: float) -> bool:
        """Return whether the daemon has ended, or ends soon."""
        assert self.daemon is not None
        try:
            self.daemon.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

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
        if self.daemon.returncode != 0:
            self.trouble.append(f"the daemon ended with {self.daemon.returncode}")
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
        """Return what a check of the store finds that is not harmless, and what lies in the spool for no file."""
        with open_store(self.store, read_only=True) as store:
            found = [str(problem) for problem in check(store, read_data=read_data) if not problem.harmless]
        deadline = time.monotonic() + 2.0  # what was just compressed or removed is deleted a moment after its row
        while left := list(self._left_in_spool()):
            if time.monotonic() > deadline:
                return [*found, *left]
            time.sleep(0.02)
        return found

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
