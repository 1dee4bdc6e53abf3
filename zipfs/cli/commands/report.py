"""`zipfs report`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from zipfs.cli.options import AnyPath
from zipfs.cli.render.messages import message
from zipfs.cli.render.progress import step_progress
from zipfs.cli.render.units import size
from zipfs.host import printable


@click.command("report")
@click.argument("store", type=AnyPath())
@click.option("-o", "--output", type=AnyPath(), required=True,
              help="The HTML file to write.")  # fmt: skip
def report_command(store: Path, output: Path) -> None:
    """Write a page on what STORE holds, what is related in it, and what that saves, by model and by layer.

    STORE may be named by its mount point. The page is one file that loads nothing from anywhere. It is the same for the
    same store, and about a megabyte at most: of very large stores it shows what saved most, and names what it
    leaves out.

    \b
    Example:
      zipfs report /store -o report.html
    """
    from zipfs.cli.locations import store_at
    from zipfs.cli.report.gather import gather
    from zipfs.cli.report.page import page
    from zipfs.store.store import open_store

    store = store_at(store)
    with open_store(store, read_only=True) as opened, _replacing(output) as file, step_progress() as report:
        for piece in page(printable(store.resolve().name), gather(opened, report)):
            file.write(piece)
    message(f"wrote {printable(str(output))}: {size(output.stat().st_size)}")


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """Yield a file that takes the place of `path` once it is complete; a device or a pipe is written to as it is."""
    from zipfs.errors import PathError

    if path.is_dir():
        raise PathError(str(path), "is a directory; name the file that is to be written")
    target = path.resolve()
    part = target if target.exists() and not target.is_file() else target.with_name(f".zipfs-{os.getpid()}.html")
    try:
        if part != target:
            part.unlink(missing_ok=True)
        # "x": in a directory of everybody, somebody may have put a link of that name.
        with open(part, "w" if part == target else "x", encoding="utf-8") as file:
            yield file
        if part != target:
            part.replace(target)
    except OSError as error:
        error.filename = str(path)  # whoever reads it knows nothing of the part; reading the store raises other errors
        raise
    finally:
        if part != target:
            part.unlink(missing_ok=True)
