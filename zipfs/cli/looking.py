"""`zipfs ls` and `zipfs stat`."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any

import click

from zipfs.cli.output import json_option, print_json, ratio, shown, size


def _row(node: Any) -> dict[str, Any]:
    return {
        "path": shown(node.path),
        "type": node.inode.kind.value,
        "mode": f"{node.inode.mode:04o}",
        "nbytes": node.nbytes,
        "stored_nbytes": node.stored_nbytes,
        "mtime": node.inode.mtime_ns / 1e9,
        "state": node.inode.state.value,
        "target": None if node.inode.target is None else shown(node.inode.target),
        "sha256": None if node.inode.sha256 is None else node.inode.sha256.hex(),
    }


@click.command("ls")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.argument("path", default="")
@click.option("-r", "--recursive", is_flag=True, help="Everything below PATH as well.")
@click.option("-l", "--long", "as_long", is_flag=True, help="With mode, sizes, time and state.")
@json_option
def ls_command(store: Path, path: str, recursive: bool, as_long: bool, as_json: bool) -> None:
    """List PATH in STORE, or its top.

    \b
    Example:
      zipfs ls -l /store meta/llama-ft
    """
    from zipfs.serve import Library

    with Library(store) as library:
        node = library.node(path)
        if not node.inode.is_directory:
            nodes = [node]
        elif recursive:
            nodes = [found for found in library.walk(node) if found.path != node.path]
        else:
            nodes = library.children(node)
        if as_json:
            print_json([_row(found) for found in nodes])
            return
        for found in nodes:
            name = shown(found.path) + ("/" if found.inode.is_directory else "")
            if as_long:
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.inode.mtime_ns / 1e9))
                sizes = f"{size(found.nbytes):>10} {size(found.stored_nbytes):>10}"
                name = f"{stat.filemode(found.mode)} {sizes} {when} {found.inode.state.value:<6} {name}"
                if found.inode.target is not None:
                    name += f" -> {shown(found.inode.target)}"
            click.echo(name)


@click.command("stat")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.argument("path", default="")
@json_option
def stat_command(store: Path, path: str, as_json: bool) -> None:
    """Show what STORE, or PATH in it, holds and takes on disk.

    \b
    Example:
      zipfs stat /store
    """
    from zipfs.serve import Library

    with Library(store) as library:
        node = library.node(path)
        nodes = list(library.walk(node))
    files = [found for found in nodes if found.inode.kind.value == "file"]
    raw = sum(found.nbytes for found in files)
    document: dict[str, Any] = {
        "path": shown(node.path),
        "files": len(files),
        "directories": sum(found.inode.is_directory for found in nodes),
        "nbytes": raw,
        "stored_nbytes": sum(found.stored_nbytes for found in files),
    }
    parts = {} if path else _disk(store)
    if parts:
        document |= {"disk_nbytes": sum(parts.values()), "disk": parts}
    if as_json:
        print_json(document)
        return
    stored = document["stored_nbytes"]
    click.echo(f"{document['files']} files in {document['directories']} directories")
    click.echo(f"{size(raw)} of content in {size(stored)} ({ratio(stored, raw)})")
    if parts:
        details = ", ".join(f"{name} {size(nbytes)}" for name, nbytes in parts.items())
        click.echo(f"{size(document['disk_nbytes'])} on disk ({ratio(document['disk_nbytes'], raw)}): {details}")


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
