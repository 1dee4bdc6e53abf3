"""Mount points as the system lists them: found, cleared when their daemon is dead, tuned, unmounted.

Nothing here touches a path inside a mount: a process that asks its own mount for anything waits for itself.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zipfs.errors import StoreBusy, ZipfsError

SUBTYPE = "fuse.zipfs"
READ_AHEAD_KIB = 4 << 10
MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48
_PROBE_S = 20.0
_CONTROLS = Path("/sys/fs/fuse/connections")
_NO_SETUID_DEVICES_PROGRAMS = 2 | 4 | 8


class MountFailed(ZipfsError):
    """{0} cannot be mounted at {1}: {2}"""

    exit_code = 6


class UnmountFailed(ZipfsError):
    """{0} cannot be unmounted: {1}"""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class MountPoint:
    path: str
    device: str
    """MAJOR:MINOR."""
    root: str
    """What of the file system is mounted there: `/`, or a directory for a bind mount of one."""
    kind: str
    source: str


def mount_points() -> Iterator[MountPoint]:
    """Every mount that this process sees, in the order they were made."""
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if b"-" in fields:
            kind, source = fields[fields.index(b"-") + 1 :][:2]
            root, path = _unescape(fields[3]), _unescape(fields[4])
            yield MountPoint(path, fields[2].decode(), root, os.fsdecode(kind), _unescape(source))


def _unescape(text: bytes) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    parts = text.split(b"\\")
    return os.fsdecode(parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:]))


def find(path: str) -> MountPoint | None:
    """The mount at a path, the topmost if there are several."""
    real = os.path.join(
        os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(os.path.abspath(path))
    )
    found = [point for point in mount_points() if point.path in (real, os.path.abspath(path))]
    return found[-1] if found else None


def locate(path: str | os.PathLike[str]) -> str:
    """The path at which the system lists a mount at `path`: a mount point may be named through a symlink.

    Not to be called by a daemon for its own mount.
    """
    absolute = os.path.abspath(path)
    # Where something is mounted it is not looked at: it may hang.
    return absolute if find(absolute) is not None else os.path.realpath(absolute)


def is_dead(path: str) -> bool:
    """Whether the mount at a path has lost its daemon."""
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        command = ["stat", "-f", "--", path]
        probe = subprocess.run(command, capture_output=True, env=environment, timeout=_PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return False  # slow, or hanging: in any case somebody else's
    return probe.returncode != 0 and b"not connected" in probe.stderr


def clear_stale(path: str) -> bool:
    """Unmount what a dead daemon has left at a path; True if there was something. Raises UnmountFailed."""
    cleared = False
    while (point := find(path)) is not None and point.kind == SUBTYPE and is_dead(path):
        unmount(path, lazy=True)
        cleared = True
    return cleared


def make_ready(store: Path, mountpoint: Path) -> None:
    """Clear what a dead daemon has left at a mount point, and see that a mount can be made there.

    Raises MountFailed, UnmountFailed.
    """
    clear_stale(str(mountpoint))
    if find(str(mountpoint)) is not None:
        raise MountFailed(store, mountpoint, "something is mounted there already")
    if not mountpoint.is_dir():
        raise MountFailed(store, mountpoint, "it is not a directory" if mountpoint.exists() else "it does not exist")
    if Path(os.path.realpath(store)).is_relative_to(os.path.realpath(mountpoint)):
        raise MountFailed(store, mountpoint, "the store itself would disappear below it")


def unmount(path: str, *, lazy: bool = False) -> None:
    """Raises StoreBusy where something is still open there, UnmountFailed otherwise."""
    tool = ["umount"] if os.geteuid() == 0 else [shutil.which("fusermount3") or "fusermount3", "-u"]
    command = [*tool, *(["-l" if tool[0] == "umount" else "-z"] if lazy else []), "--", path]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnmountFailed(path, error) from error
    if done.returncode == 0:
        return
    if "busy" in done.stderr:
        users = ", ".join(users_of(path)) or "somebody has a file or a directory of it open"
        raise StoreBusy(path, f"{users}. Close it and try again, or use --lazy")
    raise UnmountFailed(path, done.stderr.strip())


def users_of(path: str, at_most: int = 5) -> list[str]:
    """`name (pid)` of processes that have something at or below a path open or as their directory."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and len(found) < at_most and _uses(process, path):
            found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return found


def _uses(process: Path, path: str) -> bool:
    links = [process / "cwd", process / "root"]
    try:
        links += list((process / "fd").iterdir())
        targets = [os.readlink(link) for link in links]
    except OSError:
        return False  # gone by now, or somebody else's
    return any(target == path or target.startswith(path + "/") for target in targets)


def tune(path: str) -> bool:
    """Let the kernel ask for more at a time: only root may. Returns whether all of it was done.

    To be called when the kernel has had its answer to INIT, which sets these anew.
    """
    point = find(path)
    if point is None:
        return False
    controls = _CONTROLS / point.device.split(":")[1]
    if not controls.exists():
        _mount_controls()
    settings = {
        Path("/sys/class/bdi", point.device, "read_ahead_kb"): READ_AHEAD_KIB,
        controls / "max_background": MAX_BACKGROUND,
        controls / "congestion_threshold": CONGESTION_THRESHOLD,
    }
    done = [_write_setting(file, value) for file, value in settings.items()]
    return all(done)


def _mount_controls() -> None:
    """Have the kernel show its controls of FUSE where systemd has it show them, and containers have nothing.

    Without them a few readers at once count as congestion: pages are made to be read ahead into, and thrown away.
    """
    ctypes.CDLL(None).mount(b"fusectl", os.fsencode(_CONTROLS), b"fusectl", _NO_SETUID_DEVICES_PROGRAMS, None)


def _write_setting(file: Path, value: int) -> bool:
    try:
        file.write_text(str(value))
    except OSError:
        return False
    return True
