"""`zipfs mount`."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from zipfs.cli.mount_options import MountCommand, as_arguments
from zipfs.cli.options import MEMORY, AnyPath, Seconds, Size, unfinished_option
from zipfs.cli.render.messages import message
from zipfs.cli.render.units import size
from zipfs.host import own_command, own_environment, printable

_START_S: Final = 120.0
_END_S: Final = 10.0
_NOT_PASSED_ON: Final = frozenset({"daemon", "ready_fd"})


@click.command("mount", cls=MountCommand)
@click.argument("store", type=AnyPath())
@click.argument("mountpoint", type=AnyPath())
@click.option("-f", "--foreground", is_flag=True, help="Stay in front; Ctrl-C unmounts.")
@click.option("--read-only", is_flag=True, help="Refuse every change; needs no right to write to the store.")
@click.option("--no-write", is_flag=True, help="Take new content below ingest/ only; names can be changed anywhere.")
@click.option("--writeback-cache", is_flag=True,
              help="Let a write return before the mount has it; fsync and close tell errors.")  # fmt: skip
@click.option(
    "--allow-other", is_flag=True, help="Let other users in (for ordinary users: see user_allow_other in fuse.conf)."
)
@click.option("--cache-size", type=MEMORY, default="512M", show_default=True, help="Memory for decoded data.")
@click.option("--ingest-memory", type=MEMORY, default="256M", show_default=True, help="Memory for compressing.")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads that compress.")
@click.option("--quiet", "quiet_s", type=Seconds(), default=2.0, show_default=True,
              help="Seconds without a change after which what was copied in is taken as finished.")  # fmt: skip
@click.option("--linger", "linger_s", type=Seconds(endless=True), default=300.0, show_default=True,
              help="Seconds for which finished files are still listed under ingest/.")  # fmt: skip
@unfinished_option
@click.option("--reserve", type=Size(), default=None,
              help="Free space to keep.  [default: a tenth of the disk, at most 1G]")  # fmt: skip
@click.option("--optimize-after", "optimize_after_s", type=Seconds(), default=60.0, show_default=True,
              help="Seconds with nothing to compress after which the store is optimized, slowly.")  # fmt: skip
@click.option("--no-optimize", is_flag=True, help="Leave that to `zipfs optimize`.")
@click.option("-o", "options", metavar="OPTION[,OPTION...]", expose_value=False,
              help="Options as mount(8) and fstab write them: ro, noexec, allow_other, quiet=5 ...")  # fmt: skip
@click.option("--kernel-option", "kernel_options", multiple=True, hidden=True)
@click.option("--daemon", is_flag=True, hidden=True)
@click.option("--ready-fd", type=int, default=None, hidden=True)
@click.pass_context
def mount_command(
    ctx: click.Context,
    store: Path,
    mountpoint: Path,
    foreground: bool,
    read_only: bool,
    no_write: bool,
    writeback_cache: bool,
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
    kernel_options: tuple[str, ...],
    daemon: bool,
    ready_fd: int | None,
) -> None:
    """Serve STORE at MOUNTPOINT, and return when the mount answers.

    STORE is created if it is missing, in a directory that is there. What is written anywhere in MOUNTPOINT is there at
    once and is compressed in the background; a model that is copied to MOUNTPOINT/ingest/ appears at its final path as
    a whole, within seconds.

    \b
    Example:
      zipfs mount /store /mnt/models
    """
    from zipfs.mount import points
    from zipfs.store.namespace.unfinished import UnfinishedNames

    if not daemon:
        store, at = store.absolute(), Path(points.locate(mountpoint))
        _prepare(ctx, store, at, read_only, reserve)
        passed_on = as_arguments(ctx.command, ctx.params, without=_NOT_PASSED_ON)
        if foreground:
            _become([*passed_on, "--daemon", "--", str(store), str(at)])
        else:
            _start([*passed_on, "--daemon"], store, at)
        return
    from zipfs.mount.daemon import MountOptions, serve

    points.make_ready(store, mountpoint)
    serve(
        MountOptions(
            store=store,
            mountpoint=mountpoint,
            read_only=read_only,
            takes_writes=not no_write,
            writeback_cache=writeback_cache,
            allow_other=allow_other,
            cache_nbytes=cache_size,
            ingest_memory_nbytes=ingest_memory,
            threads=threads,
            quiet_s=quiet_s,
            linger_s=linger_s,
            unfinished=UnfinishedNames.from_options(unfinished),
            reserve_nbytes=reserve,
            optimize_after_s=None if no_optimize else optimize_after_s,
            kernel_options=frozenset(kernel_options),
            in_front=foreground,
        ),
        lambda: _report_ready(ready_fd),
    )


def _prepare(ctx: click.Context, store: Path, mountpoint: Path, read_only: bool, reserve: int | None) -> None:
    """Check that a mount can be made, and make the store if it is missing. Raises ZipfsError, UsageError."""
    from zipfs.mount import points
    from zipfs.store.marker import is_store

    points.make_ready(store, mountpoint)
    if reserve is not None and reserve >= (disk_nbytes := _disk_nbytes(store)):
        problem = f"keeping {size(reserve)} free on a disk of {size(disk_nbytes)} leaves nothing to store in"
        raise click.BadParameter(problem, ctx, param_hint="'--reserve'")
    if store.is_dir() and not os.access(store, os.R_OK | os.X_OK):
        raise points.MountFailed(store, mountpoint, "you may not look into that store; its owner can mount it")
    if not read_only and not is_store(store):
        from zipfs.store.directory import create_store

        create_store(store)
        message(f"made a new store at {printable(str(store))}")
    if not read_only and not all(os.access(path, os.W_OK) for path in (store, store / "locks", store / "catalog.db")):
        reason = "you may not change that store; --read-only mounts it as it is, if you may read it"
        raise points.MountFailed(store, mountpoint, reason)


def _disk_nbytes(store: Path) -> float:
    try:
        found = os.statvfs(store if store.exists() else store.parent)
    except OSError:
        return math.inf  # opening or making it will say what is wrong
    return found.f_blocks * found.f_frsize


def _become(arguments: list[str]) -> None:
    """Go on as the daemon itself, in the same process: whoever started this waits for it, or sends it signals."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):  # that of the listing itself
                os.set_inheritable(int(name), False)
    command = own_command("mount", *arguments)
    os.execve(command[0], command, own_environment(os.environ))  # noqa: S606  # no shell is wanted


def _start(arguments: list[str], store: Path, mountpoint: Path) -> None:
    """Run the daemon in a process of its own and wait until it serves."""
    from zipfs.mount.asking import run_within

    read_end, write_end = os.pipe()
    daemon = subprocess.Popen(
        own_command("mount", *arguments, f"--ready-fd={write_end}", "--", str(store), str(mountpoint)),
        env=own_environment(os.environ), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, pass_fds=[write_end], start_new_session=True,
    )  # fmt: skip
    os.close(write_end)
    try:
        ready, _, _ = select.select([read_end], [], [], _START_S)
        is_ready = bool(ready) and bool(os.read(read_end, 1))
    except KeyboardInterrupt:
        daemon.terminate()
        raise
    if is_ready:
        run_within(["stat", "--", str(mountpoint)], _END_S)  # the mount answers
        return
    if not ready:
        daemon.send_signal(signal.SIGTERM)
        raise click.ClickException(f"the mount at {mountpoint} did not answer within {_START_S:.0f} s")
    assert daemon.stderr is not None
    said = daemon.stderr.read().decode(errors="replace")
    click.echo(said, err=True, nl=False)
    sys.exit(daemon.wait() or 1)


def _report_ready(ready_fd: int | None) -> None:
    if ready_fd is not None:
        with suppress(BrokenPipeError):  # whoever started this has been killed meanwhile
            os.write(ready_fd, b"1")
        os.close(ready_fd)
