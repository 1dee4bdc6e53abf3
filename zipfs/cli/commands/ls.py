"""`zipfs ls`."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.messages import print_json
from zipfs.cli.render.units import size
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.library import Node


@click.command("ls")
@click.argument("store", type=AnyPath())
@click.argument("path", default="")
@click.option("-r", "--recursive", is_flag=True, help="Everything below PATH as well.")
@click.option("-l", "--long", "as_long", is_flag=True, help="With mode, sizes, time and state.")
@json_option
def ls_command(store: Path, path: str, recursive: bool, as_long: bool, as_json: bool) -> None:
    """List PATH in STORE, or its top. A path inside a mount can stand for both.

    \b
    Example:
      zipfs ls -l /store meta/llama-ft
      zipfs ls -l /mnt/models/meta/llama-ft
    """
    from zipfs.cli.added_sizes import added_by_file
    from zipfs.cli.locations import locate
    from zipfs.library import Library

    found = locate(store, path)
    with Library(found.store) as library:
        node = library.node(found.path)
        if not node.inode.is_directory:
            nodes = [node]
        elif recursive:
            nodes = [one for one in library.walk(node) if one.path != node.path]
        else:
            nodes = library.children(node)
        added = added_by_file(library, nodes) if as_json or as_long else {}
        if as_json:
            print_json([_row(one, added.get(one.inode.id, 0)) for one in nodes])
            return
        for one in nodes:
            name = printable(one.path) + ("/" if one.inode.is_directory else "")
            if as_long:
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.inode.mtime_ns / 1e9))
                sizes = f"{size(one.nbytes):>10} {size(added.get(one.inode.id, 0)):>10}"
                name = f"{stat.filemode(one.mode)} {sizes} {when} {one.inode.state.value:<6} {name}"
                if one.inode.target is not None:
                    name += f" -> {printable(one.inode.target)}"
            click.echo(name)


def _row(node: Node, added_nbytes: int) -> dict[str, Any]:
    return {
        "path": printable(node.path),
        "type": node.inode.kind.value,
        "mode": f"{node.inode.mode:04o}",
        "nbytes": node.nbytes,
        "stored_nbytes": added_nbytes,
        "mtime": node.inode.mtime_ns / 1e9,
        "state": node.inode.state.value,
        "target": None if node.inode.target is None else printable(node.inode.target),
        "sha256": None if node.inode.sha256 is None else node.inode.sha256.hex(),
    }
