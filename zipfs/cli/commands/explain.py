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
    from zipfs.inspect.directory_report import FileSummary
    from zipfs.inspect.file_report import FileReport


@click.command("explain")
@click.argument("store", type=AnyPath())
@click.argument("path", default="")
@click.option("--tensors", is_flag=True, help="Every tensor of every file, if PATH is a directory.")
@json_option
def explain_command(store: Path, path: str, tensors: bool, as_json: bool) -> None:
    """Show how each tensor of PATH in STORE is stored, against what, and why.

    A tensor is shared with another place, coded against a tensor elsewhere (all of it, a range, or cast from another
    type), or standalone. `bits` is what each weight added to the store. Where the store keeps sketches, the columns
    behind it are what these promise: `predicted` against the base that was taken, `standalone` without any, and `next`
    against the best of other tensors. `why` is the reason that the rules give for what the store holds now; it is "not
    known" where that keeps too little of the tensor, or has changed so that they would choose otherwise. A path inside
    a mount can stand for STORE and PATH.

    \b
    Example:
      zipfs explain /store org/my-model/model.safetensors
      zipfs explain /mnt/models/org/my-model/model.safetensors
    """
    from zipfs.cli.locations import locate
    from zipfs.cli.render.explain_json import directory_json, file_json
    from zipfs.cli.render.explain_text import directory_text, file_text
    from zipfs.inspect.directory_report import summarize_directory
    from zipfs.inspect.file_report import report_file
    from zipfs.inspect.inventory import take_inventory
    from zipfs.inspect.tensor_names import TensorNames
    from zipfs.library import Library

    found = locate(store, path)
    with Library(found.store) as library, step_progress() as progress:
        node = library.node(found.path)
        names = TensorNames(library.store)
        reports: list[FileReport] = []
        summaries: list[FileSummary] = []
        if node.is_directory:
            summaries = summarize_directory(take_inventory(library.store, progress), node.path)
        if tensors or not node.is_directory:
            nodes = [one for one in library.walk(node) if one.inode.kind.value == "file"]
            for done, one in enumerate(nodes):
                progress("reading headers", done, len(nodes))
                reports.append(report_file(library.store, names, names.hub.name(one.path), one.inode))
            progress("reading headers", len(nodes), len(nodes))
    if as_json:
        print_json(directory_json(node.path, summaries, reports) if node.is_directory else file_json(reports[0]))
        return
    width = terminal_width()
    for report in reports:
        for line in file_text(report, width):
            click.echo(line)
    if node.is_directory:
        for line in directory_text(node.path, summaries, width):
            click.echo(line)
