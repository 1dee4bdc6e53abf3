"""Help: every command and every option is in it, and it costs no imports."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import zipfs.cli.commands
from tests.support.commands import Run
from tests.support.mounts import REPOSITORY
from zipfs.cli.main import COMMANDS, cli
from zipfs.errors import ZipfsError


def test_every_command_is_a_file_and_has_a_test() -> None:
    """What is no command has no place beside them."""
    room = Path(zipfs.cli.commands.__file__).parent
    assert {path.stem for path in room.glob("*.py")} == {*COMMANDS, "__init__"}
    for name in COMMANDS:
        module = importlib.import_module(f"zipfs.cli.commands.{name}")
        assert [value.name for value in vars(module).values() if isinstance(value, click.Command)] == [name]
        assert (Path(__file__).parent / "commands" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, run: Run) -> None:
    done = run(name, "--help")
    assert done.code == 0
    text = done.out.decode()
    assert "Example:\n" in text
    assert f"  zipfs {name} " in text.partition("Example:")[2]
    assert COMMANDS[name] in run("--help").out.decode()


def test_the_help_documents_every_exit_code(run: Run) -> None:
    text = run("--help").out.decode()
    pending = [ZipfsError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        assert re.search(rf"\n +{kind.exit_code}  ", text)
    assert "Example:" in text


def test_every_option_has_help() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        assert isinstance(cli, click.Group)
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.hidden or option.help, (name, option.name)


IMPORTED = """
import sys
from zipfs.cli.main import main
sys.argv = ["zipfs", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported_by(*arguments: object) -> set[str]:
    """Run a command, and return the libraries that it has imported at its end."""
    command = [sys.executable, "-c", IMPORTED, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_imports_nothing_heavy() -> None:
    heavy = {"numpy", "trio", "rich", "sqlite_utils", "sqlite3", "pyfuse3", "zstandard", "xxhash", "hashlib"}
    assert imported_by("--help") & heavy == set()


def test_listing_and_reading_import_only_what_they_need(store: Path) -> None:
    heavy = {"trio", "rich", "pyfuse3", "sqlite_utils"}
    for arguments in (("ls", "-l", store), ("cat", store, "m/config.json"), ("status", store), ("wait", store)):
        assert imported_by(*arguments) & heavy == set(), arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ls"],
        ["cat", "x"],
        ["ls", "--nonsense", "x"],
        ["ingest", "s", "p", "--memory", "much"],
        ["ingest", "s", "p", "--memory", "-5"],
        ["ingest", "s", "p", "--threads", "0"],
        ["ingest", "s", "p", "q", "--as", "n"],
        ["ingest", "s", "--as", "n"],
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], run: Run) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "Usage:" in done.err
