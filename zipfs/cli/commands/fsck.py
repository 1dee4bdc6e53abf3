"""`zipfs fsck`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.messages import message, print_json
from zipfs.cli.render.progress import step_progress
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.store.disk.stopping import Stop
    from zipfs.store.maintenance.problem import Problem


@click.command("fsck")
@click.argument("store", type=AnyPath())
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option("--read-data", is_flag=True, help="Decode everything and compare it with its checksums.")
@json_option
def fsck_command(store: Path, repair: bool, read_data: bool, as_json: bool) -> None:
    """Check that catalog, manifests, packs and spool of STORE agree.

    Ends with exit code 5 if it found problems that it did not repair. What is left over from a kill is named, and is no
    problem.

    \b
    Example:
      zipfs fsck /store --read-data
    """
    from zipfs.cli.interruption import aborting_on_signals
    from zipfs.cli.locations import store_at
    from zipfs.store.disk.stopping import Stop

    stop = Stop()
    with aborting_on_signals(stop):
        problems, repaired = _check(store_at(store), stop, repair=repair, read_data=read_data)
    serious = [problem for problem in problems if not problem.harmless]
    if as_json:
        rows = [
            {
                "part": problem.part,
                "where": problem.where,
                "message": problem.message,
                "paths": list(problem.paths),
                "harmless": problem.harmless,
            }
            for problem in problems
        ]
        print_json({"problems": rows, "mended": repaired})
    else:
        for problem in problems:
            click.echo(f"{problem.part}: {printable(problem.where)}: {printable(problem.message)}")
            for path in problem.paths:
                click.echo(f"    needed by {printable(path)}")
        for line in repaired:
            click.echo(f"repaired: {printable(line)}")
        if not problems:
            message("clean")
        elif serious and not repair:
            click.echo("`zipfs fsck --repair` repairs what can be repaired", err=True)
    if serious:
        sys.exit(5)


def _check(store: Path, stop: Stop, *, repair: bool, read_data: bool) -> tuple[list[Problem], list[str]]:
    """Return what is wrong at the end, and what was repaired on the way."""
    from zipfs.cli.commands.rebuild import rebuild_catalog
    from zipfs.cli.pack_lock import pack_lock
    from zipfs.errors import CatalogDamaged, NotAStore
    from zipfs.store.maintenance.check import check
    from zipfs.store.maintenance.problem import Problem
    from zipfs.store.maintenance.repair import repair as repair_store
    from zipfs.store.marker import read_marker
    from zipfs.store.store import open_store

    read_marker(store)
    repaired: list[str] = []
    try:
        with open_store(store, read_only=not repair, stop=stop) as opened, step_progress(stop) as report:
            problems = list(check(opened, read_data=read_data, report=report))
            if repair and any(not problem.harmless for problem in problems):
                with pack_lock(opened, stop):
                    repaired = repair_store(opened, problems, report)
    except (CatalogDamaged, NotAStore) as error:
        problems = [Problem("catalog", str(store / "catalog.db"), str(error))]
    if not repair or all(problem.harmless for problem in problems):
        return problems, repaired
    if any(problem.part == "catalog" for problem in problems):
        repaired.append(rebuild_catalog(store, stop))
    with open_store(store, stop=stop) as opened, step_progress(stop) as report:
        return list(check(opened, read_data=read_data, report=report)), repaired
