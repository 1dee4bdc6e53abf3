"""The `zipfs` command. Each command is imported when it is called, so that help and errors come at once."""

from zipfs.cli.main import main

__all__ = ["main"]
