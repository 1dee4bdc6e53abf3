"""What a command writes for a person and for a program, and where."""

from __future__ import annotations

import json
import sys

import click

from zipfs.host import printable


def message(text: str) -> None:
    """Tell a person what has been done: on standard error where the output goes to a program."""
    click.echo(text, err=not sys.stdout.isatty())


def warning(text: str) -> None:
    """Name something that went wrong, or that was left out, on standard error."""
    click.echo(f"zipfs: {text}", err=True)


def print_json(document: object) -> None:
    """Print what `--json` promises; bytes become printable text."""
    click.echo(json.dumps(document, indent=1, default=printable))
