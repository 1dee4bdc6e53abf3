"""`zipfs cat`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zipfs.cli.options import AnyPath


@click.command("cat")
@click.argument("store", type=AnyPath())
@click.argument("path", required=False)
def cat_command(store: Path, path: str | None) -> None:
    """Write the content of the file PATH in STORE to standard output. A path inside a mount can stand for both.

    \b
    Example:
      zipfs cat /store my-model/config.json
    """
    from zipfs.cli.extraction import copy_content
    from zipfs.cli.locations import locate_one
    from zipfs.library import Library

    found = locate_one(store, path)
    with Library(found.store) as library:
        copy_content(library, library.node(found.path), sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
