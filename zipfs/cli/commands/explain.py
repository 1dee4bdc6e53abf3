"""`zipfs explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.options import AnyPath, json_option
from zipfs.cli.render.messages import print_json
from zipfs.cli.render.progress import step_progress
from zipfs.cli.render.table import terminal_width

if TYPE_CHECKING:
    from zipfs.inspect.directory_report import Summary
    from zipfs.inspect.file_report import FileAccount


@click.command("explain")
@click.argument("store", type=AnyPath())
@click.argument("path", default="")
@click.option("--tensors", is_flag=True, help="Every tensor of every file, if PATH is a directory.")
@json_option
def explain_command(store: Path, path: str, tensors: bool, as_json: bool) -> None:
    """Tell of each tensor of PATH in STORE how it is stored, against what, and why.

    A tensor is shared with another place, coded against a tensor elsewhere (all of it, a range, or cast from another
    type), or coded alone. `bits` is what it added to the store for each weight. Where the store keeps sketches, it is
    told what was predicted: `planned` against the base that was taken, `alone` without one, and `next` against the
    best of other tensors. A path inside a mount can stand for STORE and PATH.

    \b
    Example:
      zipfs explain /store org/my-model/model.safetensors
      zipfs explain /mnt/models/org/my-model/model.safetensors
    """
    from zipfs.cli.locations import locate
    from zipfs.cli.render import explain_json, explain_text
    from zipfs.inspect.directory_report import summarize
    from zipfs.inspect.file_report import account_of_file
    from zipfs.inspect.inventory import take_census
    from zipfs.inspect.tensor_names import Naming
    from zipfs.library import Library

    found = locate(store, path)
    with Library(found.store) as library, step_progress() as report:
        node = library.node(found.path)
        naming = Naming(library.store)
        accounts: list[FileAccount] = []
        summaries: list[Summary] = []
        if node.inode.is_directory:
            summaries = summarize(take_census(library.store, report), node.path)
        if tensors or not node.inode.is_directory:
            nodes = [one for one in library.walk(node) if one.inode.kind.value == "file"]
            for done, one in enumerate(nodes):
                report("reading headers", done, len(nodes))
                accounts.append(account_of_file(library.store, naming, naming.hub.name(one.path), one.inode))
            report("reading headers", len(nodes), len(nodes))
    if as_json:
        if node.inode.is_directory:
            print_json(explain_json.directory(node.path, summaries, accounts))
        else:
            print_json(explain_json.file(accounts[0]))
        return
    width = terminal_width()
    for account in accounts:
        for line in explain_text.table(account, width):
            click.echo(line)
    if node.inode.is_directory:
        for line in explain_text.summary(node.path, summaries, width):
            click.echo(line)
