"""`zipfs extract`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from zipfs.cli.options import AnyPath
from zipfs.cli.render.messages import message
from zipfs.cli.render.progress import byte_progress
from zipfs.cli.render.units import counted, ratio, size
from zipfs.errors import PathError
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.library import Node


@click.command("extract")
@click.argument("store", type=AnyPath())
@click.argument("path")
@click.argument("dest", default=None, required=False, type=AnyPath())
def extract_command(store: Path, path: str, dest: Path | None) -> None:
    """Copy the file or directory PATH of STORE to DEST, with modes, times and attributes.

    If DEST is a directory, the copy goes into it under its own name. Nothing that exists is overwritten. Files lose
    their set-user-id and set-group-id bits. A path inside a mount can stand for STORE and PATH.

    \b
    Example:
      zipfs extract /store meta/llama-ft ~/models/
      zipfs extract /mnt/models/meta/llama-ft ~/models/
    """
    from zipfs.cli.extraction import Extraction, copy_content
    from zipfs.cli.interruption import aborting_on_signals
    from zipfs.cli.locations import locate
    from zipfs.library import Library
    from zipfs.store.disk.stopping import Stop

    if dest is None:
        found = locate(store)
        dest = Path(path)
        if not found.inside:
            raise click.UsageError("Missing argument 'DEST': where the copy goes.")
    else:
        found = locate(store, path)
    stop = Stop()

    def copy(node: Node, file: BinaryIO) -> None:
        def write(content: bytes | memoryview) -> None:
            stop.check()
            file.write(content)

        copy_content(library, node, write)

    with aborting_on_signals(stop), Library(found.store) as library, byte_progress() as bar:
        top = library.node(found.path)
        if dest.is_dir():
            dest = dest / os.fsdecode(os.path.basename(top.path) or b"models")
        if os.path.lexists(dest):
            raise PathError(dest, "exists already; name another destination")
        nodes = list(library.walk(top))
        total = sum(node.nbytes for node in nodes if not node.inode.is_directory)
        task = None if bar is None else bar.add_task("", total=total)
        with Extraction(library, dest, copy) as extraction:
            for node in nodes:
                if bar is not None and task is not None:
                    bar.update(task, description=printable(node.path))
                extraction.put(node)
                if bar is not None and task is not None and not node.inode.is_directory:
                    bar.update(task, advance=node.nbytes)
    stored = sum(node.stored_nbytes for node in nodes)
    what = f"{counted(len(nodes), 'entry', 'entries')}, {size(total)}"
    message(f"extracted {what} (stored in {size(stored)}, {ratio(stored, total)})")
