"""`zipfs rm`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from zipfs.cli.options import AnyPath
from zipfs.errors import PathError


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
    from zipfs.cli.locations import locate_one
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
