"""`zipfs wait` and `zipfs status`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from zipfs.cli.render.counters import figures_of, lay_out
from zipfs.cli.render.output import AnyPath, Seconds, counted, json_option, print_json, progress_bar, ratio, size
from zipfs.cli.wait_words import WaitWords
from zipfs.errors import PathError
from zipfs.host import printable

_POLL_S = 0.2
_WORKER_ANSWER_S = 1.0
_PATIENCE_S = 30.0
"""For who waits anyway: a mount that is busy may take its time for one answer of many."""
_DEATHS_TO_GIVE_UP = 3
"""In a row, without a file that was finished between them."""


def _status_of(path: Path, within_s: float = 10.0) -> dict[str, Any]:
    """What the mount in which a path lies, or a store, says of itself. Raises PathError, NotAStore."""
    from zipfs.mount import asking, points

    top = points.top_of(str(path))
    return _status_of_store(path) if top is None else asking.ask_status(Path(top), within_s=within_s)


def _status_of_store(path: Path) -> dict[str, Any]:
    from zipfs.mount.status import describe_content, describe_ingest, describe_queue
    from zipfs.store.namespace.unfinished import STANDARD
    from zipfs.store.store import is_store, open_store

    if not is_store(path):
        raise PathError(path, "is neither in a ZipFS mount nor a store")
    with open_store(path, read_only=True) as store:
        served = store.lock("mount").held_elsewhere
        return {
            "store": str(path),
            "mounted": served,
            "worker": _worker_of(path) if served else {},
            "writing": [],
            **describe_ingest(store, STANDARD),
            "busy": served or store.lock("pack").held_elsewhere,
            **describe_queue(store),
            **describe_content(store),
        }


def _worker_of(store: Path) -> dict[str, Any]:
    """What the mount of a store tells of its worker; nothing if it does not answer at once, or cannot be seen."""
    from zipfs.mount import asking, points

    real = os.path.realpath(store)
    for point in points.mount_points():
        if point.kind == points.SUBTYPE and point.root == "/" and os.path.realpath(point.source) == real:
            with suppress(PathError):
                worker = asking.ask_status(Path(point.path), within_s=_WORKER_ANSWER_S).get("worker")
                if isinstance(worker, dict) and worker:
                    return worker
    return {}


@click.command("status")
@click.argument("mount", type=AnyPath())
@click.option("--perf", is_flag=True, help="Also what it has counted since it was mounted: requests, times, cache.")
@json_option
def status_command(mount: Path, perf: bool, as_json: bool) -> None:
    """Show what MOUNT (or a store) holds, what it is compressing, what waits and what failed.

    \b
    Example:
      zipfs status /mnt/models
    """
    status = _status_of(mount)
    figures = figures_of(mount) if perf else None
    if as_json:
        if figures is not None:
            from zipfs.metrics.snapshot import to_json

            status["perf"] = to_json(figures, buckets=False)
        print_json(status)
        return
    raw, packs = status["stored_raw_nbytes"], status["packs_nbytes"]
    click.echo(f"store       {printable(status['store'])}")
    click.echo(
        f"stored      {counted(status['stored_files'], 'file')}, {size(raw)} in {size(packs)} ({ratio(packs, raw)})"
    )
    click.echo(f"queued      {counted(status['queued_files'], 'file')}, {size(status['queued_nbytes'])}")
    if status["worker"].get("file"):
        worker = status["worker"]
        done = ratio(worker["work_nbytes"], 2 * worker["file_nbytes"])
        click.echo(f"working on  {printable(worker['file'])} ({size(worker['file_nbytes'])}, {done})")
    if status["worker"].get("optimizing"):
        what, part, whole = status["worker"]["optimizing"]
        click.echo(f"optimizing  {what} ({ratio(part, whole)})")
    if status["worker"].get("waiting"):
        click.echo(f"waiting     {printable(status['worker']['waiting'])}")
    if status["worker"].get("deaths"):
        click.echo(f"worker      {_deaths(status['worker'])}")
    click.echo(f"not sealed  {counted(status['unsealed_files'], 'file')}")
    for writer in status["writing"]:
        click.echo(f"writing     {_describe_writer(writer)}")
    for path in status["unfinished_files"]:
        click.echo(f"unfinished  {printable(path)} (waits for its final name)")
    for kept in status["kept"]:
        click.echo(f"stays       {_describe_kept(kept)}")
    for failure in status["errors"]:
        tried = counted(failure["attempts"], "time")
        click.echo(f"failed      {printable(failure['path'])}: {printable(failure['error'])} (tried {tried})")
    for hint in status.get("hints", []):
        click.echo(f"hint        {printable(hint)}")
    if figures is not None:
        click.echo()
        for line in lay_out(figures, as_rates=False):
            click.echo(line)


def _describe_writer(writer: dict[str, Any]) -> str:
    """A file that is open for writing, and where."""
    return (
        f"{printable(writer['path'])} (open in {printable(writer['program']) or 'a program'}, process {writer['pid']})"
    )


def _describe_kept(kept: dict[str, Any]) -> str:
    """A directory that stays as it is, how much it takes, and what to do about it."""
    path = printable(kept["path"])
    return (
        f"{path}: {kept['files']} files, {size(kept['nbytes'])} that a tool keeps for itself, neither served nor"
        f" compressed. Remove ingest/{path} if it is done, or mount with `--unfinished none` to have it served"
    )


def _deaths(worker: dict[str, Any]) -> str:
    """How often the worker has ended without finishing anything, since when, why, and when it is started again."""
    times = "once" if worker["deaths"] == 1 else f"{worker['deaths']} times in a row"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(worker["dying_since"]))
    words = worker["last_words"]
    said = f"; it said: {printable(words[-1])}" if words else ""
    again = worker["starts_again_at"]
    then = "" if again is None else f"; it is started again in {max(0.0, again - time.time()):.0f} s"
    return f"{worker['ended']} ({times} since {since}){said}{then}"


@click.command("wait")
@click.argument("mount", type=AnyPath())
@click.option("--timeout", "timeout_s", type=Seconds(), default=None, help="Give up after so many seconds.")
def wait_command(mount: Path, timeout_s: float | None) -> None:
    """Wait until nothing is left to compress in MOUNT (or in a store that is mounted somewhere).

    Ends with exit code 1 if files could not be stored, or were left out because their names say that they are
    unfinished (*.incomplete, .tmp*, *.part ...), and names them; also if the process that compresses keeps dying. What
    a tool keeps for itself (.git, .locks) stays, and is told.

    \b
    Example:
      zipfs wait /mnt/models
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with progress_bar() as bar:
        task = None if bar is None else bar.add_task("waiting", total=None)
        words = WaitWords(has_bar=bar is not None)
        total = 0
        while True:
            status = _status_of(mount, _PATIENCE_S)
            left = status["queued_files"] + status["unsealed_files"]
            if left <= status["failed_files"]:  # of which `errors` names those that we may know of
                break
            if "mounted" in status and not status["busy"]:
                waiting = counted(left, "file waits", "files wait")
                advice = f"mount the store, or run `zipfs ingest {printable(str(mount))}`"
                raise PathError(mount, f"{waiting} and nothing compresses them: {advice}")
            if status["queued_files"] and status["worker"].get("deaths", 0) >= _DEATHS_TO_GIVE_UP:
                why = _deaths(status["worker"])
                click.echo(
                    f"zipfs: {counted(left, 'file waits', 'files wait')} and the worker keeps dying: {why}", err=True
                )
                sys.exit(1)
            if deadline is not None and time.monotonic() > deadline:
                click.echo(
                    f"zipfs: {counted(left, 'file is', 'files are')} still waiting after {timeout_s:g} s", err=True
                )
                for writer in status["writing"]:
                    click.echo(f"zipfs: being written: {_describe_writer(writer)}", err=True)
                sys.exit(4)
            words.still(status, left)
            if bar is not None and task is not None:
                worker = status["worker"]
                done_nbytes = worker.get("work_nbytes", 0) // 2 if worker.get("file") else 0
                total = max(total, status["queued_nbytes"])
                what = os.path.basename(printable(worker.get("file") or "")) or "sealing"
                bar.update(task, description=what, total=total, completed=total - status["queued_nbytes"] + done_nbytes)
            time.sleep(_POLL_S)
    words.done(status)
    for kept in status["kept"]:
        click.echo(f"zipfs: left as it is: {_describe_kept(kept)}", err=True)
    for failure in status["errors"]:
        click.echo(f"zipfs: {printable(failure['path'])}: {printable(failure['error'])}", err=True)
    for path in status["unfinished_files"]:
        click.echo(f"zipfs: {printable(path)}: not served, for its name says that it is not finished", err=True)
    if status["errors"] or status["unfinished_files"]:
        sys.exit(1)
