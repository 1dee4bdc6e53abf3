"""Finds, tunes and unmounts mount points as the system lists them, and clears those whose daemon is dead.

Nothing here touches a path inside a mount: a process that asks its own mount for anything waits for itself, and one
that asks a mount that hangs waits for ever. What has to be asked is asked by another process (`asking.py`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zipfs.errors import PathError, StoreBusy, ZipfsError
from zipfs.host import read_mount_option
from zipfs.mount.asking import real_path, run_within

SUBTYPE = "fuse.zipfs"
READ_AHEAD_KIB = 4 << 10
MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48
_PROBE_S = 10.0
_UNMOUNT_S = 60.0
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
    """Of a ZipFS mount: its store."""


def mount_points(process: str = "self") -> Iterator[MountPoint]:
    """Return every mount that a process sees, in the order they were made. Raises OSError."""
    for line in Path("/proc", process, "mountinfo").read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if b"-" in fields:
            kind, source = fields[fields.index(b"-") + 1 :][:2]
            root, path = _unescape(fields[3]), _unescape(fields[4])
            text = _unescape(source)
            if kind == SUBTYPE.encode():
                text = read_mount_option(text)
            yield MountPoint(path, fields[2].decode(), root, os.fsdecode(kind), text)


def _unescape(text: bytes) -> str:
    """Decode what mountinfo writes: space, tab, newline and backslash as three octal digits."""
    parts = text.split(b"\\")
    return os.fsdecode(parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:]))


def find(path: str) -> MountPoint | None:
    """Return the mount at a path, the topmost if there are several."""
    absolute = os.path.abspath(path)
    points = list(mount_points())
    found = [point for point in points if point.path == absolute]
    if not found:
        real = os.path.join(real_path(os.path.dirname(absolute)), os.path.basename(absolute))
        found = [point for point in points if point.path == real]
    return found[-1] if found else None


def top_of(path: str) -> str | None:
    """Return where the ZipFS mount in which a path lies has its top; None outside of any. Raises PathError, Hangs."""
    absolute = os.path.abspath(path)
    found = _containing(absolute) or _containing(real_path(absolute))
    if found is None or found.root == "/":
        return None if found is None else found.path
    for point in mount_points():
        if (point.device, point.root, point.kind) == (found.device, "/", SUBTYPE):
            return point.path
    raise PathError(path, "a part of a ZipFS mount is seen there, and its top nowhere; name the store instead")


def _containing(absolute: str) -> MountPoint | None:
    """Return the ZipFS mount in which a path lies by its name, symlinks apart."""
    inside = [point for point in mount_points() if f"{absolute}/".startswith(f"{point.path.rstrip('/')}/")]
    found = max(enumerate(inside), key=lambda item: (len(item[1].path), item[0]), default=(0, None))[1]
    return found if found is not None and found.kind == SUBTYPE else None


def mounted_also_at(point: MountPoint) -> list[str]:
    """Return where else this process sees what was mounted at a point."""
    return [seen.path for seen in mount_points() if _same(seen, point)]


def mounted_also_by(point: MountPoint) -> list[str]:
    """Return `name (pid)` of one process of each other mount namespace with a copy of what was mounted at a point."""
    found: dict[str, str] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):  # gone by now, or somebody else's
                space = os.readlink(process / "ns" / "mnt")
                if space not in found and any(_same(seen, point) for seen in mount_points(process.name)):
                    found[space] = f"{(process / 'comm').read_text().strip()} ({process.name})"
    return list(found.values())


def _same(one: MountPoint, other: MountPoint) -> bool:
    return (one.device, one.kind, one.source) == (other.device, other.kind, other.source)


def locate(path: str | os.PathLike[str]) -> str:
    """Return the path at which the system lists a mount at `path`: a mount point may be named through a symlink.

    Not to be called by a daemon for its own mount. Raises Hangs.
    """
    absolute = os.path.abspath(path)
    # Where something is mounted it is not looked at: it may hang.
    return absolute if find(absolute) is not None else real_path(absolute)


def is_dead(path: str) -> bool:
    """Return whether the mount at a path has lost its daemon. One that is slow, or hangs, has not."""
    probe = run_within(["stat", "-f", "--", path], _PROBE_S)
    return probe is not None and probe.code != 0 and "not connected" in probe.said


def clear_stale(path: str) -> bool:
    """Unmount what a dead daemon has left at a path. Return whether there was something. Raises UnmountFailed."""
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
    if (mountpoint / "ZIPFS").is_file():
        raise MountFailed(store, mountpoint, "that is a store itself; the store is named first, then where to mount it")
    if not mountpoint.is_dir():
        raise MountFailed(store, mountpoint, "it is not a directory" if mountpoint.exists() else "it does not exist")
    if Path(os.path.realpath(store)).is_relative_to(os.path.realpath(mountpoint)):
        raise MountFailed(store, mountpoint, "the store itself would disappear below it")


def unmount(path: str, *, lazy: bool = False) -> None:
    """Raise StoreBusy where something is still open there, UnmountFailed otherwise."""
    tool = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    command = [*tool, *(["-l" if tool[0] == "umount" else "-z"] if lazy else []), "--", path]
    try:
        done = run_within(command, _UNMOUNT_S)
    except OSError as error:
        raise UnmountFailed(path, error) from error
    if done is None:
        raise UnmountFailed(path, f"{tool[0]} has not ended within {_UNMOUNT_S:.0f} s; try --lazy")
    if done.code == 0:
        return
    if "busy" in done.said:
        users = ", ".join(users_of(path)) or "somebody has a file or a directory of it open"
        raise StoreBusy(path, f"{users}. Close it and try again, or use --lazy")
    raise UnmountFailed(path, done.said.strip())


def users_of(path: str, at_most: int = 5) -> list[str]:
    """Return `name (pid)` of processes that have something at or below a path open or as their directory."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and len(found) < at_most and _uses(process, path):
            with suppress(OSError):
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

    To be called when the kernel has had its answer to INIT, which sets these anew. A mount serves without all of it.
    """
    try:
        point = find(path)
        if point is None:
            return False
        controls = _CONTROLS / point.device.split(":")[1]
        if not controls.exists():
            _mount_controls()
    except OSError:
        return False
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
