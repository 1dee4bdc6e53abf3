"""`zipfs ls` and `zipfs stat`."""

from __future__ import annotations

import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from zipfs.cli.render.output import AnyPath, counted, json_option, print_json, ratio, size
from zipfs.cli.takes import leftovers, parts_of
from zipfs.host import printable


def _row(node: Any, added_nbytes: int) -> dict[str, Any]:
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
    from zipfs.cli.places import locate
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
        added = _added(library, nodes) if as_json or as_long else {}
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


@click.command("stat")
@click.argument("store", type=AnyPath())
@click.argument("path", default="")
@json_option
def stat_command(store: Path, path: str, as_json: bool) -> None:
    """Show what STORE, or PATH in it, holds and takes on disk. A path inside a mount can stand for both.

    Of a path, it is told what its files added: what they share with older files counts for these.

    \b
    Example:
      zipfs stat /store
    """
    from zipfs.cli.places import locate
    from zipfs.library import Library
    from zipfs.store.catalog.sizes import take_figures
    from zipfs.store.maintenance.collect import freeable_nbytes

    found = locate(store, path)
    with Library(found.store) as library:
        node = library.node(found.path)
        nodes = list(library.walk(node))
        figures = None if node.path else take_figures(library.store.catalog, freeable_nbytes(library.store))
        stored = sum(_added(library, nodes).values()) if figures is None else figures.stored_nbytes
    files = {one.inode.id: one.nbytes for one in nodes if one.inode.kind.value == "file"}
    raw = sum(files.values())
    document: dict[str, Any] = {
        "path": printable(node.path),
        "files": len(files),
        "directories": sum(one.inode.is_directory for one in nodes),
        "nbytes": raw,
        "stored_nbytes": stored,
    }
    parts = {} if figures is None else _disk(found.store)
    if figures is not None:
        document |= parts_of(figures) | {"disk_nbytes": sum(parts.values()), "disk": parts}
    if as_json:
        print_json(document)
        return
    directories = counted(document["directories"], "directory", "directories")
    click.echo(f"{counted(document['files'], 'file')} in {directories}")
    click.echo(f"{size(raw)} of content in {size(stored)} ({ratio(stored, raw)})")
    if figures is not None:
        for line in leftovers(figures):
            click.echo(f"  {line}")
        details = ", ".join(f"{name} {size(nbytes)}" for name, nbytes in parts.items())
        click.echo(f"{size(document['disk_nbytes'])} on disk ({ratio(document['disk_nbytes'], raw)}): {details}")


def _added(library: Any, nodes: Sequence[Any]) -> dict[int, int]:
    """What each file of some nodes takes, by inode id: what it added to the packs, or its bytes in the spool."""
    from zipfs.store.catalog.sizes import added_nbytes

    stored = [one.inode.id for one in nodes if one.inode.state.value == "stored"]
    spooled = {one.inode.id: one.stored_nbytes for one in nodes if one.inode.state.value in ("open", "sealed")}
    return spooled | added_nbytes(library.store.catalog, stored)


def _disk(store: Path) -> dict[str, int]:
    """Bytes that each part of a store takes on disk."""
    parts = {"packs": 0, "catalog": 0, "manifests": 0, "spool": 0, "other": 0}
    for found in store.rglob("*"):
        try:
            info = found.lstat()
        except FileNotFoundError:
            continue  # a store may be in use
        if stat.S_ISREG(info.st_mode):
            top = found.relative_to(store).parts[0]
            part = "catalog" if top.startswith("catalog.db") else top if top in parts else "other"
            parts[part] += 512 * info.st_blocks
    return parts
