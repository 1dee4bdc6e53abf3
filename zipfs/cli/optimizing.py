"""`zipfs optimize`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.output import Size, counting, json_option, print_json, ratio, say, size

if TYPE_CHECKING:
    from zipfs.ingest.optimizing import Optimized, Survey

_NICE = 10


@click.command("optimize")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.option("--dry-run", is_flag=True, help="Only tell what would be gained.")
@click.option("--limit-bytes", type=Size(), default=None, help="Code at most so many (raw) bytes anew.  [default: all]")
@click.option("--rate", type=Size(), default=None, help="At most so many (raw) bytes a second.  [default: no limit]")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads that compress.")
@click.option("--memory", type=Size(), default="256M", show_default=True, help="Memory for decoded data.")
@json_option
def optimize_command(
    store: Path, dry_run: bool, limit_bytes: int | None, rate: int | None, threads: int, memory: int, as_json: bool
) -> None:
    """Find better bases for what STORE holds, code anew what gains by it, and free what that leaves behind.

    It runs at a low priority, and the store may be mounted, read and written meanwhile. Ctrl-C stops it in order; the
    next run goes on from there.

    \b
    Example:
      zipfs optimize /store --dry-run
      zipfs optimize /store --limit-bytes 100G --rate 50M
    """
    from zipfs.errors import Stopped
    from zipfs.ingest.optimizing import Limits, look, optimize
    from zipfs.store.stopping import Stop, stopping_on_signals
    from zipfs.store.store import open_store

    os.nice(_NICE)
    stop = Stop()
    with (
        stopping_on_signals(stop),
        open_store(store, cache_nbytes=memory, stop=stop) as opened,
        counting(stop) as report,
    ):
        if dry_run:
            _tell_plan(look(opened, report), as_json)
            return
        done = optimize(opened, report, limits=Limits(limit_bytes, rate), stop=stop, threads=threads)
    _tell_done(done, as_json)
    if done.stopped:
        raise Stopped
    if done.collected.damaged:
        sys.exit(5)


def _tell_plan(seen: Survey, as_json: bool) -> None:
    gain = sum(plan.gain_nbytes for plan in seen.plans)
    moved = sum(plan.moved_nbytes for plan in seen.plans)
    moves = sum(len(plan.moves) for plan in seen.plans)
    if as_json:
        print_json(
            {
                "families": seen.clusters,
                "before_nbytes": seen.before_nbytes,
                "gain_nbytes": gain,
                "tensors_to_code": moves,
                "nbytes_to_code": moved,
                "complete": seen.complete,
            }
        )
        return
    say(f"{seen.clusters} families of tensors take {size(seen.before_nbytes)}")
    say(f"coding {moves} of them ({size(moved)} raw) anew would save {size(gain)} ({ratio(gain, seen.before_nbytes)})")


def _tell_done(done: Optimized, as_json: bool) -> None:
    recoded, collected = done.recoded, done.collected
    if as_json:
        print_json(
            {
                "tensors_coded": recoded.tensors,
                "nbytes_coded": recoded.moved_nbytes,
                "saved_nbytes": recoded.saved_nbytes,
                "families_given_up": recoded.given_up,
                "nbytes_left": done.left_nbytes,
                "freed_nbytes": collected.freed_nbytes,
                "stopped": done.stopped,
                "damaged": list(collected.damaged),
            }
        )
        return
    if recoded.tensors:
        coded = f"coded {recoded.tensors} tensors ({size(recoded.moved_nbytes)} raw) anew"
        say(f"{coded}: they take {size(recoded.saved_nbytes)} less; freed {size(collected.freed_nbytes)}")
    elif not done.stopped:
        say("nothing was worth coding anew")
    if done.left_nbytes:
        say(f"{size(done.left_nbytes)} (raw) that would gain are left to the next run")
    for message in collected.damaged:
        click.echo(f"zipfs: left as it is: {message}", err=True)
