"""The group of commands, and how every one of them ends on an error."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import tempfile
import traceback
from typing import Final

import click

import zipfs
from zipfs.errors import ZipfsError
from zipfs.host import printable

COMMANDS: Final = {
    "mount": "Serve a store as a directory.",
    "umount": "Unmount it again.",
    "wait": "Wait until everything that was copied in is compressed.",
    "status": "Show what a mount is doing.",
    "top": "Show live how fast a mount is serving.",
    "ingest": "Store files without a mount, or compress what waits in the spool.",
    "ls": "List what is stored.",
    "stat": "Show the size of a store, or of a path in it.",
    "families": "Show which models are related, and what that saves.",
    "explain": "Show how the tensors of a file are stored, and why.",
    "report": "Write a page on what is stored, related and saved.",
    "cat": "Write a stored file to standard output.",
    "extract": "Copy a stored file or directory out.",
    "rm": "Remove a file or directory from a store.",
    "gc": "Free the space of what was removed.",
    "optimize": "Find better bases for what is stored.",
    "fsck": "Check a store, and repair it with --repair.",
    "rebuild": "Rebuild a lost catalog.",
}
"""Command -> its line in the help, in the order of that. The module `commands.NAME` defines it, as `NAME_command`."""

EXIT_CODES: Final = """\b
Exit codes:
  0  done
  1  something else went wrong; for wait and ingest: some files could not be stored
  2  the command line is wrong
  3  a path, a file or a store that was named is not there or cannot be used so
  4  the store is busy, or its disk is full: trying again later can help
  5  stored data is damaged (fsck: problems were found)
  6  mounting or unmounting failed
  130  interrupted"""


class _Commands(click.Group):
    """Finds commands by name, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"zipfs.cli.commands.{cmd_name}"), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take `zipfs STORE MOUNTPOINT -o OPTIONS`, as mount(8) calls it, for `zipfs mount`."""
        if "/" in args[0]:
            return "mount", self.get_command(ctx, "mount"), args
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from a table: importing each for its first line would take half a second."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zipfs.__version__, prog_name="zipfs")
def cli() -> None:
    """Keep model checkpoints in a fraction of their size, and serve them as the files they were.

    \b
    Example:
      zipfs mount /store /mnt/models
      cp -r my-model /mnt/models/ingest/
      zipfs wait /mnt/models
    """


def main() -> None:
    """Run a command, and end with its exit code: on an error after one line that says what to do."""
    _prepare_process()
    try:
        cli(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("zipfs: interrupted", err=True)
        sys.exit(130)
    except ZipfsError as error:
        click.echo(f"zipfs: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; Python would complain once more at its exit
        sys.exit(1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        click.echo(f"zipfs: {printable(f'{name}{error.strerror or error}')}", err=True)
        sys.exit(3 if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError) else 1)
    except Exception as error:  # noqa: BLE001  # nothing that a user does ends in a traceback
        what = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        click.echo(f"zipfs: a bug in ZipFS ended this: {what}. Please report it{_kept_for_a_report()}", err=True)
        sys.exit(1)


def _kept_for_a_report() -> str:
    """Write down where the exception that is being handled came from; return where that is, for a message."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="zipfs-bug-", suffix=".txt", delete=False) as file:
            file.write(f"zipfs {zipfs.__version__}, Python {sys.version}\n{traceback.format_exc()}")
    except OSError:
        return ""
    return f", with {file.name}"


def _prepare_process() -> None:
    """Open standard streams that are closed, let the output take any text, and let this process learn how children end.

    The number of a standard stream that is closed would go to the next file that is opened, the catalog for instance.
    """
    # NumPy's linear algebra, of which we use next to nothing, would start a thread for each core, and they spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names are bytes, and a locale may know few characters
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
