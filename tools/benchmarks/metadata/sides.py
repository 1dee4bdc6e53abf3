"""What tools/bench metadata compares: a store that is mounted, a mount that does nothing, a plain directory.

Nothing here looks into a mount itself; whatever does is a process with a timeout. A mount that does not answer is
aborted, and gone in the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")
_ZIPFS = [sys.executable, "-m", "zipfs.cli"]


class Hung(Exception):
    """{0} has not answered within a reasonable time; its mount was aborted"""


@dataclass(slots=True)
class Side:
    """One of those compared. `pid` is the process that answers, 0 where the kernel does."""

    name: str
    top: Path
    pid: int = 0

    def run(self, command: Sequence[str | Path]) -> str:
        """Run a program on it; what it printed. Raises Hung."""
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, errors="replace", timeout=PATIENCE_S, check=True
            )
        except subprocess.TimeoutExpired:
            abort(self.top)
            raise Hung(self.name) from None
        return done.stdout

    def time(self, command: Sequence[str | Path]) -> tuple[float, float]:
        """Seconds that a program takes on it, and seconds of processor time of the process that answers."""
        before_s, began_s = self._processor_s(), time.perf_counter()
        self.run(command)
        return time.perf_counter() - began_s, self._processor_s() - before_s

    def _processor_s(self) -> float:
        return processor_s(self.pid) if self.pid else 0.0


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def mount_store(store: Path, top: Path) -> tuple[Side, float]:
    """Mount a store, and the seconds from the start of the command until the root is listed. Raises Hung."""
    side = Side("ZipFS", top)
    began_s = time.perf_counter()
    side.run([*_ZIPFS, "mount", store, top])
    side.run(["ls", top])
    spent_s = time.perf_counter() - began_s
    side.pid = daemon_of(store)
    return side, spent_s


def daemon_of(store: Path) -> int:
    """The process that holds the store mounted; `/proc` tells it without a look into the mount."""
    wanted = [b"mount", os.fsencode(store)]
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                if any(part.startswith(b"--ready-fd=") for part in arguments) and all(
                    part in arguments for part in wanted
                ):
                    return int(process.name)
    raise Hung(f"the mount of {store}")


def kill(side: Side) -> None:
    """End the process that answers as a crash would; its mount point stays behind."""
    descriptor = os.pidfd_open(side.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)
    while Path(f"/proc/{side.pid}/stat").exists():
        time.sleep(0.01)


def unmount(side: Side) -> None:
    side.run([*_ZIPFS, "umount", side.top])


@contextmanager
def nothing_mounted(files: int, top: Path) -> Iterator[Side]:
    """The mount that does nothing, for the time of the block."""
    # A session of its own, as `zipfs mount` makes one: the kernel's scheduler shares processors out among sessions, so
    # that on a busy machine one within that of its client would be answered sooner.
    command = [sys.executable, "-m", "tools.benchmarks.metadata.floor", str(files), str(top)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while _device_of(top) is None:
            if process.poll() is not None:
                sys.exit("bench: the mount that does nothing could not be made")
            time.sleep(0.05)
        yield Side("does nothing", top, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            abort(top)
            process.kill()


def forget_names() -> bool:
    """Have the kernel forget the names and attributes that it keeps; only root may. What it read from disks stays."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError:
        return False
    return True


def abort(top: Path) -> None:
    """Answer whatever waits in a mount with an error, and take it away."""
    device = _device_of(top)
    if device is not None:
        with suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{device.split(':')[1]}/abort").write_text("1")
        subprocess.run(["umount", "-l", top], timeout=20, check=False)


def _device_of(top: Path) -> str | None:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if fields[4] == str(top) and " fuse" in line:
            return fields[2]
    return None
