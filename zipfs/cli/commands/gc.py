"""`zipfs gc`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.messages import message, print_json, warning
from zipfs.cli.render.progress import step_progress
from zipfs.cli.render.units import counted, size
from zipfs.host import printable


@click.command("gc")
@click.argument("store", type=AnyPath())
@json_option
def gc_command(store: Path, as_json: bool) -> None:
    """Free the space of what was removed from STORE, and merge small packs. A base stays as long as anything is coded
    against it.

    \b
    Example:
      zipfs gc /store
    """
    from zipfs.cli.locations import store_at
    from zipfs.cli.pack_lock import pack_lock
    from zipfs.store.disk.stopping import Stop, stopping_on_signals
    from zipfs.store.maintenance.collect import collect
    from zipfs.store.maintenance.remove import open_to_remove

    stop = Stop()
    with (
        stopping_on_signals(stop),
        open_to_remove(store_at(store), stop) as opened,
        pack_lock(opened, stop),
        step_progress(stop) as report,
    ):
        done = collect(opened, report)
    if as_json:
        print_json(
            {
                "freed_nbytes": done.freed_nbytes,
                "packs_deleted": done.packs_deleted,
                "packs_rewritten": done.packs_rewritten,
                "packs_merged": done.packs_merged,
                "blobs_dropped": done.blobs_dropped,
                "damaged": list(done.damaged),
            }
        )
    else:
        packs = f"{counted(done.packs_deleted, 'pack')} deleted, {done.packs_rewritten:,} of them rewritten"
        if done.packs_merged:
            packs += f", {counted(done.packs_merged, 'small one')} merged"
        message(f"freed {size(done.freed_nbytes)}: {packs}")
        for damage in done.damaged:
            warning(f"left as it is: {printable(damage)}")
    if done.damaged:
        sys.exit(5)
