"""`zipfs rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.options import AnyPath
from zipfs.cli.render.messages import message, warning
from zipfs.cli.render.progress import step_progress
from zipfs.cli.render.units import counted
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.store.disk.stopping import Stop


@click.command("rebuild")
@click.argument("store", type=AnyPath())
def rebuild_command(store: Path) -> None:
    """Rebuild the catalog of STORE from its packs and manifests alone. Nothing may have the store open meanwhile.

    \b
    Example:
      zipfs rebuild /store
    """
    from zipfs.cli.interruption import aborting_on_signals
    from zipfs.cli.locations import store_at
    from zipfs.store.disk.stopping import Stop

    stop = Stop()
    with aborting_on_signals(stop):
        done = rebuild_catalog(store_at(store), stop)
    message(done)


def rebuild_catalog(store: Path, stop: Stop) -> str:
    """Rebuild the catalog with all that is derived from it, name what is lost, and return what was done in words."""
    from zipfs.bases.similarity.backfill import backfill_samples, backfill_sketches
    from zipfs.store.maintenance.rebuild import rebuild
    from zipfs.store.store import open_store

    with step_progress(stop) as report:
        done = rebuild(store, report)
        with open_store(store, stop=stop) as opened:
            backfill_sketches(opened, report)
            backfill_samples(opened, report)
    for lost in done.lost:
        warning(f"lost: {printable(lost)}")
    found = f"{counted(done.files, 'file')}, {counted(done.blobs, 'blob')}, {counted(len(done.lost), 'loss', 'losses')}"
    return f"catalog rebuilt from {counted(done.packs, 'pack')}: {found}"
