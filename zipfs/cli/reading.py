"""`zipfs cat` and `zipfs extract`: reading with no mount."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.output import interrupted_by_signals, progress_bar, ratio, say, shown, size
from zipfs.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zipfs.serve import Library, Node
    from zipfs.store.stopping import Stop

_CHUNK_NBYTES = 4 << 20


@click.command("cat")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.argument("path")
def cat_command(store: Path, path: str) -> None:
    """Write the content of the file PATH in STORE to standard output.

    \b
    Example:
      zipfs cat /store my-model/config.json
    """
    from zipfs.serve import Library

    with Library(store) as library:
        _copy(library, library.node(path), sys.stdout.buffer.write)
        sys.stdout.buffer.flush()


def _copy(library: Library, node: Node, write: Callable[[bytes | memoryview], object]) -> None:
    content = library.open(node)
    try:
        for offset in range(0, content.nbytes, _CHUNK_NBYTES):
            write(content.read(offset, _CHUNK_NBYTES))
    finally:
        content.close()


@click.command("extract")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.argument("path")
@click.argument("dest", type=click.Path(path_type=Path, readable=False))
def extract_command(store: Path, path: str, dest: Path) -> None:
    """Copy the file or directory PATH of STORE to DEST, with modes, times and attributes.

    If DEST is a directory, the copy goes into it under its own name. Nothing that exists is overwritten.

    \b
    Example:
      zipfs extract /store meta/llama-ft ~/models/
    """
    from zipfs.serve import Library
    from zipfs.store.stopping import Stop

    stop = Stop()
    with interrupted_by_signals(stop), Library(store) as library, progress_bar() as bar:
        top = library.node(path)
        if dest.is_dir():
            dest = dest / os.fsdecode(os.path.basename(top.path) or b"models")
        if os.path.lexists(dest):
            raise PathError(dest, "exists already; name another destination")
        nodes = list(library.walk(top))
        total = sum(node.nbytes for node in nodes if not node.inode.is_directory)
        task = None if bar is None else bar.add_task("", total=total)
        for node in nodes:
            target = Path(os.fsdecode(os.fsencode(dest) + node.path[len(top.path) :])) if node is not top else dest
            if node is not top and not top.path:
                target = dest / os.fsdecode(node.path)
            if bar is not None and task is not None:
                bar.update(task, description=shown(node.path))
            _extract(library, node, target, stop)
            if bar is not None and task is not None and not node.inode.is_directory:
                bar.update(task, advance=node.nbytes)
        # Directories last, from the bottom up: filling them changes their times, and their mode may forbid it.
        for node in reversed(nodes):
            if node.inode.is_directory:
                target = dest / os.fsdecode(node.path[len(top.path) :].lstrip(b"/"))
                _set_attributes(library, node, target)
    stored = sum(node.stored_nbytes for node in nodes)
    say(f"extracted {len(nodes)} entries, {size(total)} (stored in {size(stored)}, {ratio(stored, total)})")


def _extract(library: Library, node: Node, target: Path, stop: Stop) -> None:
    """A file is there as a whole or not at all."""
    if node.inode.is_directory:
        target.mkdir()
    elif node.inode.target is not None:
        os.symlink(node.inode.target, os.fsencode(target))
        _set_attributes(library, node, target)
    else:
        with open(target, "xb") as file:

            def write(content: bytes | memoryview) -> None:
                stop.check()
                file.write(content)

            try:
                _copy(library, node, write)
            except BaseException:
                target.unlink()
                raise
        _set_attributes(library, node, target)


def _set_attributes(library: Library, node: Node, target: Path) -> None:
    from zipfs.store.attributes import write_attributes

    def refused(name: bytes) -> None:
        say(f"{shown(str(target))}: attribute {shown(name)} cannot be set there")

    write_attributes(target, library.attributes(node), refused)
