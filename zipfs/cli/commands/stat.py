"""`zipfs stat`."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import click

from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.messages import print_json
from zipfs.cli.render.store_sizes import leftovers, sizes_json
from zipfs.cli.render.units import counted, ratio, size
from zipfs.host import printable


@click.command("stat")
@click.argument("store", type=AnyPath())
@click.argument("path", default="")
@json_option
def stat_command(store: Path, path: str, as_json: bool) -> None:
    """Show what STORE, or PATH in it, holds and takes on disk. A path inside a mount can stand for both.

    Of a path, this is what its files added: what they share with older files counts for those.

    \b
    Example:
      zipfs stat /store
    """
    from zipfs.cli.added_sizes import added_by_file
    from zipfs.cli.locations import locate
    from zipfs.library import Library
    from zipfs.store.maintenance.collect import freeable_nbytes

    found = locate(store, path)
    with Library(found.store) as library:
        node = library.node(found.path)
        nodes = list(library.walk(node))
        sizes = None if node.path else library.store.catalog.store_sizes(freeable_nbytes(library.store))
        stored = sum(added_by_file(library, nodes).values()) if sizes is None else sizes.stored_nbytes
    files = {one.inode.id: one.nbytes for one in nodes if one.inode.kind.value == "file"}
    raw = sum(files.values())
    document: dict[str, Any] = {
        "path": printable(node.path),
        "files": len(files),
        "directories": sum(one.inode.is_directory for one in nodes),
        "nbytes": raw,
        "stored_nbytes": stored,
    }
    parts = {} if sizes is None else _disk(found.store)
    if sizes is not None:
        document |= sizes_json(sizes) | {"disk_nbytes": sum(parts.values()), "disk": parts}
    if as_json:
        print_json(document)
        return
    directories = counted(document["directories"], "directory", "directories")
    click.echo(f"{counted(document['files'], 'file')} in {directories}")
    click.echo(f"{size(raw)} of content in {size(stored)} ({ratio(stored, raw)})")
    if sizes is not None:
        for line in leftovers(sizes):
            click.echo(f"  {line}")
        details = ", ".join(f"{name} {size(nbytes)}" for name, nbytes in parts.items())
        click.echo(f"{size(document['disk_nbytes'])} on disk ({ratio(document['disk_nbytes'], raw)}): {details}")


def _disk(store: Path) -> dict[str, int]:
    """Return the bytes that each part of a store takes on disk."""
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
