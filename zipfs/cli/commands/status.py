"""`zipfs status`."""

from __future__ import annotations

from pathlib import Path

import click

from zipfs.cli.mount_state import counters_of, status_of
from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.counters import counters_text
from zipfs.cli.render.messages import print_json
from zipfs.cli.render.status import kept_text, worker_failures, writer_text
from zipfs.cli.render.units import counted, ratio, size
from zipfs.host import printable


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
    status = status_of(mount)
    counters = counters_of(mount) if perf else None
    if as_json:
        if counters is not None:
            from zipfs.metrics.snapshot import to_json

            status["perf"] = to_json(counters, buckets=False)
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
        click.echo(f"worker      {worker_failures(status['worker'])}")
    click.echo(f"not sealed  {counted(status['unsealed_files'], 'file')}")
    for writer in status["writing"]:
        click.echo(f"writing     {writer_text(writer)}")
    for path in status["unfinished_files"]:
        click.echo(f"unfinished  {printable(path)} (waits for its final name)")
    for path in status.get("unfinished_in_place", []):
        click.echo(f"unfinished  {printable(path)} (served, and compressed under its final name)")
    for kept in status["kept"]:
        click.echo(f"stays       {kept_text(kept)}")
    for failure in status["errors"]:
        tried = counted(failure["attempts"], "time")
        click.echo(f"failed      {printable(failure['path'])}: {printable(failure['error'])} (tried {tried})")
    for hint in status.get("hints", []):
        click.echo(f"hint        {printable(hint)}")
    if counters is not None:
        click.echo()
        for line in counters_text(counters, as_rates=False):
            click.echo(line)
