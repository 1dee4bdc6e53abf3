"""`zipfs optimize`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.options import MEMORY, AnyPath, Size, json_option
from zipfs.cli.render.messages import message, print_json, warning
from zipfs.cli.render.progress import step_progress
from zipfs.cli.render.units import counted, ratio, size
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.ingest.optimize.run import Optimized, StorePlan

_WORTH_SHOWING = 0.01
"""Of what a store takes."""


@click.command("optimize")
@click.argument("store", type=AnyPath())
@click.option("--dry-run", is_flag=True, help="Only show what would be saved.")
@click.option("--limit-bytes", type=Size(), default=None, help="Rebase at most so many (raw) bytes.  [default: all]")
@click.option("--rate", type=Size(at_least_nbytes=1), default=None,
              help="At most so many (raw) bytes a second.  [default: no limit]")  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads that compress.")
@click.option("--memory", type=MEMORY, default="256M", show_default=True, help="Memory for decoded data.")
@json_option
def optimize_command(
    store: Path, dry_run: bool, limit_bytes: int | None, rate: int | None, threads: int, memory: int, as_json: bool
) -> None:
    """Find better bases for what STORE holds, rebase what gains by it, and free what that leaves behind.

    It runs at a low priority, and the store may be mounted, read and written meanwhile. Ctrl-C stops it in good order;
    the next run goes on from there.

    \b
    Example:
      zipfs optimize /store --dry-run
      zipfs optimize /store --limit-bytes 100G --rate 50M
    """
    from zipfs.cli.locations import store_at
    from zipfs.errors import Stopped
    from zipfs.ingest.optimize.run import Limits, optimize, plan_rebases
    from zipfs.ingest.rank import lower_rank
    from zipfs.store.disk.stopping import Stop, stopping_on_signals
    from zipfs.store.store import open_store

    lower_rank()
    stop = Stop()
    with (
        stopping_on_signals(stop),
        open_store(store_at(store), cache_nbytes=memory, stop=stop) as opened,
        step_progress(stop) as report,
    ):
        if dry_run:
            _print_plan(plan_rebases(opened, report), as_json)
            return
        before_nbytes = sum(opened.catalog.packs().values())
        done = optimize(opened, report, limits=Limits(limit_bytes, rate), stop=stop, threads=threads)
        after_nbytes = sum(opened.catalog.packs().values())
    _print_result(done, before_nbytes, after_nbytes, as_json)
    if done.stopped:
        raise Stopped
    if done.collected.damaged:
        sys.exit(5)


def _print_plan(seen: StorePlan, as_json: bool) -> None:
    gain = sum(plan.gain_nbytes for plan in seen.plans)
    moved = sum(plan.moved_nbytes for plan in seen.plans)
    tensors = sum(len(plan.steps) for plan in seen.plans)
    if as_json:
        print_json(
            {
                "families": seen.clusters,
                "before_nbytes": seen.before_nbytes,
                "gain_nbytes": gain,
                "tensors_to_code": tensors,
                "nbytes_to_code": moved,
                "complete": seen.complete,
            }
        )
        return
    families = counted(seen.clusters, "family of tensors takes", "families of tensors take")
    message(f"{families} {size(seen.before_nbytes)}")
    what = counted(tensors, "tensor")
    message(f"rebasing {what} of them ({size(moved)} raw) would save {size(gain)} ({ratio(gain, seen.before_nbytes)})")


def _print_result(done: Optimized, before_nbytes: int, after_nbytes: int, as_json: bool) -> None:
    rebased, collected = done.rebased, done.collected
    if as_json:
        print_json(
            {
                "tensors_coded": rebased.tensors,
                "nbytes_coded": rebased.moved_nbytes,
                "saved_nbytes": rebased.saved_nbytes,
                "families_given_up": rebased.given_up,
                "nbytes_left": done.left_nbytes,
                "before_nbytes": before_nbytes,
                "after_nbytes": after_nbytes,
                "freed_nbytes": collected.freed_nbytes,
                "stopped": done.stopped,
                "damaged": list(collected.damaged),
            }
        )
        return
    if rebased.tensors:
        what = f"{counted(rebased.tensors, 'tensor')} ({size(rebased.moved_nbytes)} raw)"
        message(f"rebased {what}, which saves {size(rebased.saved_nbytes)}")
    elif not done.stopped:
        message("nothing was worth rebasing")
    # Not what the collection freed: most of that are the old forms of what was rebased, which came on top before.
    removed = before_nbytes - after_nbytes - rebased.saved_nbytes
    also = f"; {size(removed)} of that was of what had been removed" if removed > _WORTH_SHOWING * before_nbytes else ""
    if before_nbytes != after_nbytes:
        message(f"the store took {size(before_nbytes)} before and takes {size(after_nbytes)} now{also}")
    if done.left_nbytes:
        message(f"{size(done.left_nbytes)} (raw) that would gain are left to the next run")
    for damage in collected.damaged:
        warning(f"left as it is: {printable(damage)}")
