"""`zipfs cat` and `zipfs extract`: reading with no mount."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from zipfs.cli.render.output import AnyPath, counted, interrupted_by_signals, progress_bar, ratio, say, size
from zipfs.errors import PathError
from zipfs.host import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from zipfs.library import Library, Node

_CHUNK_NBYTES = 4 << 20


@click.command("cat")
@click.argument("store", type=AnyPath())
@click.argument("path", required=False)
def cat_command(store: Path, path: str | None) -> None:
    """Write the content of the file PATH in STORE to standard output. A path inside a mount can stand for both.

    \b
    Example:
      zipfs cat /store my-model/config.json
    """
    from zipfs.cli.places import locate_one
    from zipfs.library import Library

    found = locate_one(store, path)
    with Library(found.store) as library:
        _copy(library, library.node(found.path), sys.stdout.buffer.write)
        sys.stdout.buffer.flush()


def _copy(library: Library, node: Node, write: Callable[[bytes | memoryview], object]) -> None:
    content = library.open(node)
    try:
        for offset in range(0, content.nbytes, _CHUNK_NBYTES):
            write(content.read(offset, _CHUNK_NBYTES))
    finally:
        content.close()


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
    from zipfs.cli.extracting import Extraction
    from zipfs.cli.places import locate
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

        _copy(library, node, write)

    with interrupted_by_signals(stop), Library(found.store) as library, progress_bar() as bar:
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
    say(f"extracted {what} (stored in {size(stored)}, {ratio(stored, total)})")
