"""`zipfs report`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from zipfs.cli.output import counting, say, shown, size


@click.command("report")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.option("-o", "--output", type=click.Path(path_type=Path, readable=False), required=True,
              help="The HTML file to write.")  # fmt: skip
def report_command(store: Path, output: Path) -> None:
    """Write a page on what STORE holds, what is related in it, and what that saves, by model and by layer.

    The page is one file that loads nothing from anywhere. It is the same for the same store, and about a megabyte at
    most: of very large stores it shows what saved most, and says what it leaves out.

    \b
    Example:
      zipfs report /store -o report.html
    """
    from zipfs.cli.report.gather import gather
    from zipfs.cli.report.page import page
    from zipfs.store.store import open_store

    with open_store(store, read_only=True) as opened, counting() as report:
        content = "".join(page(shown(store.resolve().name), gather(opened, report)))
    part = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        part.write_text(content, encoding="utf-8")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    say(f"wrote {shown(str(output))}: {size(len(content.encode()))}")
