"""Find the store that a command is to work on, and the path in it.

An argument may name a store, its mount point, or a path inside a mount. This process never touches what is inside a
mount: a mount may hang, and whoever touches it hangs with it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zipfs.errors import PathError

if TYPE_CHECKING:
    from zipfs.mount.points import MountPoint

_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Location:
    """A store and a path of its served tree; `inside` says that a path below the top of a mount was named."""

    store: Path
    path: str
    inside: bool = False


def locate(where: Path, path: str = "") -> Location:
    """Find the store that `where` is or is served from, and `path` in it, below `where` if that is inside of a mount.

    Whether what was named is a store at all shows when it is opened. Raises PathError.
    """
    found = _mount_of(where)
    if found is None:
        return Location(where, path)
    point, below = found
    served = "/".join(filter(None, (point.root.strip("/"), below)))
    if served == "ingest" or served.startswith("ingest/"):
        served = served[len("ingest/") :]  # it mirrors what is served
    return Location(_store_of(point, where), "/".join(filter(None, (served, path))), inside=bool(served))


def locate_one(where: Path, path: str | None) -> Location:
    """Find the store and the path in it, for a command that needs a path. Raises click.UsageError without one."""
    found = locate(where, path or "")
    if path is None and not found.inside:
        raise click.UsageError("Missing argument 'PATH': a path in the store. A path inside a mount stands for both.")
    return found


def store_at(where: Path) -> Path:
    """Find the store that `where` is or that is mounted there, for commands on a whole store. Raises PathError."""
    found = locate(where)
    if found.inside:
        raise PathError(
            where, "is inside a mount, and this command is for a whole store: name the store, or its mount point"
        )
    return found.store


def _mount_of(where: Path) -> tuple[MountPoint, str] | None:
    """Find the ZipFS mount that a path lies in, and the path below its top; symlinks are followed up to there."""
    from zipfs.mount.points import SUBTYPE, mount_points

    points = {point.path: point for point in mount_points()}
    parts = os.path.abspath(where).strip("/").split("/")
    at, links = "", 0
    found: tuple[MountPoint, int] | None = None
    done: list[str] = []
    while parts:
        done.append(parts.pop(0))
        at = "/" + "/".join(done)
        if at in points:
            found = (points[at], len(done)) if points[at].kind == SUBTYPE else None
        elif found is None:
            try:
                is_link = stat.S_ISLNK(os.lstat(at).st_mode)
            except OSError:
                return None
            if is_link and links < _MAX_LINKS:
                links += 1
                target = os.path.abspath(os.path.join(os.path.dirname(at), os.readlink(at)))
                parts, done = [*target.strip("/").split("/"), *parts], []
    return None if found is None else (found[0], "/".join(done[found[1] :]))


def _store_of(point: MountPoint, where: Path) -> Path:
    """Return the store that a mount serves, as the system lists it or, within a limit of time, as its daemon says."""
    from zipfs.mount import asking, points
    from zipfs.store.marker import is_store

    if os.path.isabs(point.source) and is_store(Path(point.source)):
        return Path(point.source)
    for top in points.mount_points():
        if (top.device, top.root) == (point.device, "/"):
            with suppress(PathError):
                store = asking.ask_status(Path(top.path)).get("store")
                if isinstance(store, str) and is_store(Path(store)):
                    return Path(store)
    raise PathError(where, "is inside a mount that does not say which store it serves: name the store instead")
