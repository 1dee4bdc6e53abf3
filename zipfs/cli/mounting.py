"""`zipfs mount` and `zipfs umount`."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from zipfs.cli.output import Size, say, unfinished_option

_START_S = 120.0
_STOP_S = 60.0


@click.command("mount")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.argument("mountpoint", type=click.Path(path_type=Path, readable=False))
@click.option("-f", "--foreground", is_flag=True, help="Stay in front; Ctrl-C unmounts.")
@click.option("--read-only", is_flag=True, help="Refuse every change; needs no right to write to the store.")
@click.option(
    "--allow-other", is_flag=True, help="Let other users in (for ordinary users: see user_allow_other in fuse.conf)."
)
@click.option("--cache-size", type=Size(), default="512M", show_default=True, help="Memory for decoded data.")
@click.option("--ingest-memory", type=Size(), default="256M", show_default=True, help="Memory for compressing.")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads that compress.")
@click.option("--quiet", "quiet_s", type=click.FloatRange(0.0), default=2.0, show_default=True,
              help="Seconds without a change after which what was copied in is taken as finished.")  # fmt: skip
@click.option("--linger", "linger_s", type=click.FloatRange(0.0), default=300.0, show_default=True,
              help="Seconds for which finished files are still listed under ingest/.")  # fmt: skip
@unfinished_option
@click.option("--reserve", type=Size(), default=None,
              help="Free space to keep.  [default: a tenth of the disk, at most 1G]")  # fmt: skip
@click.option("--optimize-after", "optimize_after_s", type=click.FloatRange(0.0), default=60.0, show_default=True,
              help="Seconds with nothing to compress after which the store is optimized, slowly.")  # fmt: skip
@click.option("--no-optimize", is_flag=True, help="Leave that to `zipfs optimize`.")
@click.option("--ready-fd", type=int, default=None, hidden=True)
def mount_command(
    store: Path,
    mountpoint: Path,
    foreground: bool,
    read_only: bool,
    allow_other: bool,
    cache_size: int,
    ingest_memory: int,
    threads: int,
    quiet_s: float,
    linger_s: float,
    unfinished: tuple[str, ...],
    reserve: int | None,
    optimize_after_s: float,
    no_optimize: bool,
    ready_fd: int | None,
) -> None:
    """Serve STORE at MOUNTPOINT; returns when the mount answers.

    STORE is created if it is missing. What is copied to MOUNTPOINT/ingest/ appears at its final path within seconds and
    is compressed in the background.

    \b
    Example:
      zipfs mount /store /mnt/models
    """
    if not foreground:
        _start(mountpoint)
        return
    from zipfs.ingest.names import UnfinishedNames
    from zipfs.mount import points
    from zipfs.mount.daemon import MountOptions, log_to, serve

    at = Path(points.locate(mountpoint))
    points.make_ready(store, at)
    if not read_only:
        from zipfs.store.store import create_store, is_store

        if not is_store(store):
            create_store(store)
        log_to(store / "log" / "zipfs.log", also_stderr=ready_fd is None)
    serve(
        MountOptions(
            store=store.absolute(),
            mountpoint=at,
            read_only=read_only,
            allow_other=allow_other,
            cache_nbytes=cache_size,
            ingest_memory_nbytes=ingest_memory,
            threads=threads,
            quiet_s=quiet_s,
            linger_s=linger_s,
            unfinished=UnfinishedNames.from_options(unfinished),
            reserve_nbytes=reserve,
            optimize_after_s=None if no_optimize else optimize_after_s,
        ),
        lambda: _tell_ready(ready_fd),
    )


def _start(mountpoint: Path) -> None:
    """Run this very command in a process of its own and wait until it serves."""
    read_end, write_end = os.pipe()
    arguments = [argument for argument in sys.argv[1:] if argument]
    command = [sys.executable, "-m", "zipfs.cli", *arguments, "--foreground", "--ready-fd", str(write_end)]
    daemon = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        pass_fds=[write_end], start_new_session=True,
    )  # fmt: skip
    os.close(write_end)
    ready, _, _ = select.select([read_end], [], [], _START_S)
    if ready and os.read(read_end, 1):
        os.stat(mountpoint)  # the mount answers
        return
    if not ready:
        daemon.send_signal(signal.SIGTERM)
        raise click.ClickException(f"the mount at {mountpoint} did not answer within {_START_S:.0f} s")
    assert daemon.stderr is not None
    said = daemon.stderr.read().decode(errors="replace")
    click.echo(said, err=True, nl=False)
    sys.exit(daemon.wait() or 1)


def _tell_ready(ready_fd: int | None) -> None:
    if ready_fd is not None:
        os.write(ready_fd, b"1")
        os.close(ready_fd)
        null = os.open(os.devnull, os.O_RDWR)  # nobody reads our errors from here on; they are in the log
        os.dup2(null, 2)
        os.close(null)


@click.command("umount")
@click.argument("mountpoint", type=click.Path(path_type=Path, readable=False))
@click.option("--lazy", is_flag=True, help="Detach it now even if something is open in it.")
def umount_command(mountpoint: Path, lazy: bool) -> None:
    """Unmount MOUNTPOINT and wait until its store is closed.

    What is not compressed yet stays in the store and is taken up by the next mount.

    \b
    Example:
      zipfs umount /mnt/models
    """
    from zipfs.mount import points

    path = points.locate(mountpoint)
    if points.clear_stale(path):
        say(f"{mountpoint}: cleared what a dead mount had left")
        return
    point = points.find(path)
    if point is None or point.kind != points.SUBTYPE:
        raise points.UnmountFailed(mountpoint, "no ZipFS store is mounted there")
    pid = _daemon_of(path)
    points.unmount(path, lazy=lazy)
    if pid is not None and not lazy:
        _wait_for_end(pid)


def _daemon_of(path: str) -> int | None:
    try:
        with open(os.path.join(path, ".zipfs", "status.json"), "rb") as file:
            return int(json.load(file)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        deadline = time.monotonic() + _STOP_S
        ended, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ended:
            raise click.ClickException(f"unmounted, but its process {pid} has not ended within {_STOP_S:.0f} s")
    finally:
        os.close(descriptor)
