"""`zipfs rm`, `gc`, `fsck` and `rebuild`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zipfs.cli.render.output import (
    AnyPath,
    counted,
    counting,
    interrupted_by_signals,
    json_option,
    print_json,
    say,
    size,
)
from zipfs.errors import PathError
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.store.disk.stopping import Stop

_WAITING = "waiting: another process is compressing or collecting in this store"


@click.command("rm")
@click.argument("store", type=AnyPath())
@click.argument("path", required=False)
@click.option("-r", "--recursive", is_flag=True, help="Directories as well, with all they hold.")
def rm_command(store: Path, path: str | None, recursive: bool) -> None:
    """Remove PATH from STORE. Its space is freed by the next `zipfs gc`.

    Whoever has the file open can go on reading it. A path inside a mount can stand for both.

    \b
    Example:
      zipfs rm -r /store old-model
      zipfs rm -r /mnt/models/old-model
    """
    from zipfs.cli.places import locate_one
    from zipfs.store.maintenance import remove
    from zipfs.store.namespace import tree
    from zipfs.store.objects.values import ROOT

    found = locate_one(store, path)
    with remove.open_to_remove(found.store) as opened:
        where = os.fsencode(found.path)
        inode = tree.resolve(opened.catalog, where)
        if inode.is_directory and not recursive and inode.id != ROOT:
            raise PathError(found.path, "is a directory; `zipfs rm -r` removes it with all that it holds")
        remove.remove(opened, where)


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
    from zipfs.cli.places import store_at
    from zipfs.store.disk.stopping import Stop, stopping_on_signals
    from zipfs.store.maintenance.collect import collect
    from zipfs.store.maintenance.remove import open_to_remove

    stop = Stop()
    with (
        stopping_on_signals(stop),
        open_to_remove(store_at(store), stop) as opened,
        opened.lock("pack").held(_WAITING, waiting=lambda: say(_WAITING), stop=stop),
        counting(stop) as report,
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
        say(f"freed {size(done.freed_nbytes)}: {packs}")
        for message in done.damaged:
            click.echo(f"zipfs: left as it is: {printable(message)}", err=True)
    if done.damaged:
        sys.exit(5)


@click.command("fsck")
@click.argument("store", type=AnyPath())
@click.option("--repair", "mend", is_flag=True, help="Mend what can be mended.")
@click.option("--read-data", is_flag=True, help="Decode everything and compare it with its checksums.")
@json_option
def fsck_command(store: Path, mend: bool, read_data: bool, as_json: bool) -> None:
    """Check STORE: catalog, manifests, packs and spool have to tell the same.

    Ends with exit code 5 if it found problems that it did not mend. What is left over from a kill is named but is no
    problem.

    \b
    Example:
      zipfs fsck /store --read-data
    """
    from zipfs.cli.places import store_at
    from zipfs.store.disk.stopping import Stop

    stop = Stop()
    with interrupted_by_signals(stop):
        problems, mended = _fsck(store_at(store), stop, mend=mend, read_data=read_data)
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
        print_json({"problems": rows, "mended": mended})
    else:
        for problem in problems:
            click.echo(f"{problem.part}: {printable(problem.where)}: {printable(problem.message)}")
            for path in problem.paths:
                click.echo(f"    needed by {printable(path)}")
        for line in mended:
            click.echo(f"mended: {printable(line)}")
        if not problems:
            say("clean")
        elif serious and not mend:
            click.echo("`zipfs fsck --repair` mends what can be mended", err=True)
    if serious:
        sys.exit(5)


def _fsck(store: Path, stop: Stop, *, mend: bool, read_data: bool) -> tuple[list[Any], list[str]]:
    """What is wrong at the end, and what was mended on the way."""
    from zipfs.errors import CatalogDamaged, NotAStore
    from zipfs.store.maintenance.check import Problem, check
    from zipfs.store.maintenance.repair import repair
    from zipfs.store.store import open_store, read_marker

    read_marker(store)
    mended: list[str] = []
    try:
        with open_store(store, read_only=not mend, stop=stop) as opened, counting(stop) as report:
            problems = list(check(opened, read_data=read_data, report=report))
            if mend and any(not problem.harmless for problem in problems):
                with opened.lock("pack").held(_WAITING, waiting=lambda: say(_WAITING), stop=stop):
                    mended = repair(opened, problems, report)
    except (CatalogDamaged, NotAStore) as error:
        problems = [Problem("catalog", str(store / "catalog.db"), str(error))]
    if not mend or all(problem.harmless for problem in problems):
        return problems, mended
    if any(problem.part == "catalog" for problem in problems):
        mended.append(_rebuild(store, stop))
    with open_store(store, stop=stop) as opened, counting(stop) as report:
        return list(check(opened, read_data=read_data, report=report)), mended


def _rebuild(store: Path, stop: Stop) -> str:
    from zipfs.bases.similarity.backfill import make_landmarks, make_sketches
    from zipfs.store.maintenance.repair import rebuild
    from zipfs.store.store import open_store

    with counting(stop) as report:
        done = rebuild(store, report)
        with open_store(store, stop=stop) as opened:
            make_sketches(opened, report)
            make_landmarks(opened, report)
    for message in done.lost:
        click.echo(f"zipfs: lost: {printable(message)}", err=True)
    found = f"{counted(done.files, 'file')}, {counted(done.blobs, 'blob')}, {counted(len(done.lost), 'loss', 'losses')}"
    return f"catalog made anew from {counted(done.packs, 'pack')}: {found}"


@click.command("rebuild")
@click.argument("store", type=AnyPath())
def rebuild_command(store: Path) -> None:
    """Make the catalog of STORE anew from its packs and manifests alone; nothing may have the store open meanwhile.

    \b
    Example:
      zipfs rebuild /store
    """
    from zipfs.cli.places import store_at
    from zipfs.store.disk.stopping import Stop

    stop = Stop()
    with interrupted_by_signals(stop):
        told = _rebuild(store_at(store), stop)
    say(told)
