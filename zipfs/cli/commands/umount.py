"""`zipfs umount`."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zipfs.cli.options import AnyPath
from zipfs.cli.render.messages import message
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.mount.points import MountPoint

_STOP_S: Final = 60
_OTHERS_S: Final = 10
"""A program that is starting in a mount namespace of its own has copies of all mounts for a moment."""


@click.command("umount")
@click.argument("mountpoint", type=AnyPath())
@click.option("--lazy", is_flag=True, help="Detach it now even if something is open in it, or if it hangs.")
def umount_command(mountpoint: Path, lazy: bool) -> None:
    """Unmount MOUNTPOINT and wait until its store is closed.

    What is not compressed yet stays in the store and is taken up by the next mount.

    \b
    Example:
      zipfs umount /mnt/models
    """
    from zipfs.mount import points

    path = points.locate(mountpoint)
    point = points.find(path)
    if point is None or point.kind != points.SUBTYPE:
        raise points.UnmountFailed(mountpoint, "no ZipFS store is mounted there")
    if lazy:  # a mount that hangs is not asked for anything
        points.unmount(path, lazy=True)
        return
    if points.clear_stale(path):
        message(f"{mountpoint}: cleared what a dead mount had left")
        return
    pid = _daemon_of(path)
    points.unmount(path)
    if pid is not None:
        _wait_for_end(pid, point)


def _daemon_of(path: str) -> int | None:
    """Return the process behind a mount; None if it does not say. Raises Hangs."""
    from zipfs.errors import PathError
    from zipfs.mount.asking import Hangs, ask_status

    try:
        return int(ask_status(Path(path))["pid"])
    except Hangs:
        raise
    except (PathError, KeyError, TypeError, ValueError):
        return None


def _wait_for_end(pid: int, point: MountPoint) -> None:
    """Wait for the end of a daemon. Raises StoreBusy where the file system goes on somewhere else."""
    from zipfs.errors import StoreBusy
    from zipfs.mount.points import mounted_also_at, mounted_also_by

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for waited_s in range(_STOP_S):
            ended, _, _ = select.select([descriptor], [], [], 1.0)
            if ended:
                return
            where = mounted_also_at(point)
            if not where and waited_s >= _OTHERS_S:
                where = [f"the mount namespace of {user}" for user in mounted_also_by(point)]
            if where:
                places = ", ".join(map(printable, where))
                raise StoreBusy(
                    point.path, f"unmounted here, but its store stays open: it is mounted at {places} as well"
                )
        raise click.ClickException(f"unmounted, but its process {pid} has not ended within {_STOP_S} s")
    finally:
        os.close(descriptor)
