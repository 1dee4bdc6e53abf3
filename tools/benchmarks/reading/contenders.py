"""What is read through: the plain file, ZipFS, and what else serves the same files from less space.

Nothing here looks at a path inside a mount: that is for processes which can be given up. A mount that does not answer
is aborted through the kernel, so that whoever waits in it gets an error.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from zipfs.mount import points

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
EXTRA_BIN = HERE.parents[2] / ".venv-bench" / "bin"
START_S = 60.0
STOP_S = 20.0
QUIET_S = 0.3
NOBODY = 65534
FUSE_DEVICE = Path("/dev/fuse")

# The one capability lets Python and the store be read wherever they are; it grants nothing that a mount asks for.
AS_NOBODY: Sequence[str | Path] = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "env", "HOME=/nonexistent",
)  # fmt: skip


class Trouble(Exception):
    """Something that a benchmark runs has failed; the message says what."""


def run(*command: str | Path, timeout_s: float = 3600.0) -> None:
    """Run a program silently; raises Trouble with what it said last."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Trouble(f"{command[0]} ended with {done.returncode}: {' / '.join(said)}")


@dataclass(slots=True)
class Contender:
    """Files below `root`: those of the disk itself, which need nothing."""

    name: str
    root: Path
    prefix: Sequence[str | Path] = ()
    """What runs a reader of it, such as setpriv."""

    def start(self) -> None:
        """Make it ready; nothing of what was read before is left in its own memory."""

    def stop(self, *, for_good: bool = False) -> None:
        """`for_good` also ends what may stay from one measurement to the next."""

    def abort(self) -> None:
        """Give up what hangs."""

    def cpu_s(self) -> float:
        """Processor time that its daemon has used; 0 where there is none."""
        return 0.0

    def peak_mib(self) -> float | None:
        """The most memory that its daemon had resident, ever."""
        return None


@dataclass(slots=True)
class Image(Contender):
    """A read-only filesystem of the kernel on a file that `image` names; `root` is where it is mounted."""

    image: Path = Path()
    options: str = ""

    def start(self) -> None:
        if points.find(str(self.root)) is None:
            run("mount", "-o", f"loop,{self.options}", self.image, self.root, timeout_s=START_S)

    def stop(self, *, for_good: bool = False) -> None:
        if for_good and points.find(str(self.root)) is not None:
            run("umount", self.root, timeout_s=START_S)


@dataclass(slots=True)
class Daemon(Contender):
    """A FUSE mount at `point` by a command that stays in front; ended after each measurement unless it `stays`."""

    command: Sequence[str | Path] = ()
    point: Path = Path()
    stays: bool = False
    log: Path = Path(os.devnull)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        if self.process is not None:
            if self.process.poll() is None and points.find(str(self.point)) is not None:
                return
            self.abort()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None:
                said = self.log.read_text(errors="replace").strip().splitlines()[-1:] if self.log.is_file() else []
                raise Trouble(f"{self.name} does not start: {' '.join(said)}")
            if time.monotonic() > deadline:
                self.abort()
                raise Trouble(f"{self.name} does not answer within {START_S:.0f} s")
            time.sleep(0.02)
        self._wait_until_idle(deadline)

    def _wait_until_idle(self, deadline: float) -> None:
        """Wait until what starts with the mount, such as the worker of ZipFS, has come to rest."""
        quiet_since, before = time.monotonic(), -1.0
        while time.monotonic() < min(quiet_since + QUIET_S, deadline):
            if (now := self._family_cpu_s()) != before:
                quiet_since, before = time.monotonic(), now
            time.sleep(0.02)

    def _family_cpu_s(self) -> float:
        """Processor time of the daemon and of the children that it has."""
        assert self.process is not None
        pid = self.process.pid
        children = _proc(pid, f"task/{pid}/children").split()
        return sum(_cpu_s(found) for found in (pid, *map(int, children)))

    def _answers(self) -> bool:
        if points.find(str(self.point)) is None:
            return False
        try:
            looked = subprocess.run([*self.prefix, "ls", self.point], capture_output=True, timeout=STOP_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        return looked.returncode == 0

    def stop(self, *, for_good: bool = False) -> None:
        if self.process is None or (self.stays and not for_good):
            return
        try:
            run("umount", self.point, timeout_s=STOP_S)
            self.process.wait(STOP_S)
        except (Trouble, subprocess.TimeoutExpired):
            self.abort()
        self.process = None

    def abort(self) -> None:
        point = points.find(str(self.point))
        if point is not None:
            with suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{point.device.split(':')[1]}/abort").write_text("1")
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
            self.process = None
        if point is not None:
            subprocess.run(["umount", "-l", self.point], capture_output=True, timeout=STOP_S, check=False)

    def cpu_s(self) -> float:
        return 0.0 if self.process is None else _cpu_s(self.process.pid)

    def peak_mib(self) -> float | None:
        for line in [] if self.process is None else _proc(self.process.pid, "status").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None


def _proc(pid: int, name: str) -> str:
    """What the kernel says of a process; empty if that is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _cpu_s(pid: int) -> float:
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


ZIPFS, ORDINARY, PLAIN, NOTHING, LMZ, SQUASHFS, BTRFS = (
    "ZipFS", "ZipFS, ordinary user", "plain file", "do-nothing mount", "lmz mount", "squashfs zstd", "btrfs zstd",
)  # fmt: skip
"""Names of the contenders."""


def contenders(folder: Path, points_folder: Path) -> dict[str, Contender]:
    """All of them, by name. What they serve lies below `folder`, as `stores` has made it.

    They are mounted below `points_folder`.
    """

    def point(name: str) -> Path:
        path = points_folder / name
        path.mkdir(parents=True)
        return path

    store, logs = folder / "store", points_folder
    zipfs, ordinary, nothing, lmz = (point(name) for name in ("zipfs", "ordinary", "nothing/tuned", "lmz"))
    os.chown(ordinary, NOBODY, NOBODY)
    found = [
        Contender(PLAIN, folder / "models"),
        Daemon(
            ZIPFS, zipfs, command=(BIN / "zipfs", "mount", "-f", store, zipfs), point=zipfs, log=logs / "zipfs.log"
        ),
        Daemon(
            ORDINARY, ordinary, AS_NOBODY, log=logs / "ordinary.log", point=ordinary,
            command=(BIN / "zipfs", "mount", "-f", "--read-only", store, ordinary),
        ),
        Daemon(
            NOTHING, nothing.parent, log=logs / "nothing.log", point=nothing, stays=True,
            command=(sys.executable, "-m", "tools.benchmarks.reading.nothing", folder / "models" / "tuned", nothing),
        ),
        Daemon(
            LMZ, lmz, command=(EXTRA_BIN / "lmz", "mount", "-q", "--store", folder / "lmz", lmz), point=lmz,
            log=logs / "lmz.log",
        ),
        Image(SQUASHFS, point("squashfs"), image=folder / "squashfs.img", options="ro"),
        Image(BTRFS, point("btrfs"), image=folder / "btrfs.img", options="ro"),
    ]  # fmt: skip
    return {contender.name: contender for contender in found}


def open_device_to_everyone() -> Callable[[], None]:
    """Let ordinary users mount, as udev does; bare containers keep /dev/fuse to root. What undoes it."""
    mode = stat.S_IMODE(FUSE_DEVICE.stat().st_mode)
    FUSE_DEVICE.chmod(0o666)
    return lambda: FUSE_DEVICE.chmod(mode)
