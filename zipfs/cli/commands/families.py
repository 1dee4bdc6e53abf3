"""`zipfs families`."""

from __future__ import annotations

from pathlib import Path

import click

from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.messages import print_json
from zipfs.cli.render.progress import step_progress
from zipfs.cli.render.table import terminal_width


@click.command("families")
@click.argument("store", type=AnyPath())
@json_option
def families_command(store: Path, as_json: bool) -> None:
    """Show which models in STORE (or in what is mounted there) are related, and what that saves.

    A model is a directory that holds tensors. Each hangs on the one that most of its bytes rest on, because they are
    coded against tensors there or are the same. For each: its size, what it added to the store, and how much of it is
    stored how: shared with another place, against a tensor elsewhere (base: all of it, range: a part, cast: one of
    another type), standalone, or as bytes that are no tensor.

    \b
    Example:
      zipfs families /store
    """
    from zipfs.cli.locations import store_at
    from zipfs.cli.render.families_json import families_json
    from zipfs.cli.render.families_text import families_text
    from zipfs.inspect.store_report import report_store
    from zipfs.store.store import open_store

    with open_store(store_at(store), read_only=True) as opened, step_progress() as progress:
        report = report_store(opened, progress)
    if as_json:
        print_json(families_json(report))
        return
    for line in families_text(report, terminal_width()):
        click.echo(line)
