"""The examples in the help of every command do what they are there to show."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.support.mounts import Mount, poll, run, zipfs
from tests.support.stores import model, weights, write_tree
from zipfs.cli.main import COMMANDS, cli

MODEL = {b"model.safetensors": model(weights(30_000)), b"config.json": b"{}"}
_LAST = ("umount", "rebuild")
STORED = ("meta/llama-ft", "org/my-model", "my-model", "old-model")


def examples() -> Iterator[list[str]]:
    """Every line of an example, as words, and in an order in which each finds what it needs."""
    assert isinstance(cli, click.Group)
    context = click.Context(cli)
    for name in sorted(COMMANDS, key=lambda name: _LAST.index(name) if name in _LAST else -1):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help is not None
        lines = [line.strip() for line in command.help.partition("Example:")[2].splitlines() if line.strip()]
        assert lines, name
        for line in lines:
            words = shlex.split(line)
            assert words[:2] == ["zipfs", name], line
            yield words[1:]


def test_every_example_works_as_it_is_written(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts()
    home = tmp_path / "home"
    source = write_tree(home / "models/llama-ft", MODEL)
    for name in STORED:
        assert zipfs("ingest", mount.store, source, "--as", name).returncode == 0
    mount.guard()
    for words in examples():
        if words[0] == "rm":  # both examples remove the same
            assert zipfs("ingest", mount.store, source, "--as", "old-model").returncode == 0
            if mount.is_mounted():
                poll((mount.point / "old-model/config.json").exists)
        if words[0] == "extract":
            run("rm", "-rf", home / "models/llama-ft")
        done = zipfs(
            *(actual(word, mount, home, tmp_path) for word in words), *(["--once"] if words[0] == "top" else [])
        )
        assert done.returncode == 0, (words, done.stderr)
        if words[0] == "mount":
            mount.pid = int(mount.status()["pid"])
        if words[0] == "extract":
            assert (home / "models/llama-ft/config.json").read_bytes() == b"{}"
    assert (tmp_path / "report.html").stat().st_size > 0
    assert not mount.is_mounted()


def actual(word: str, mount: Mount, home: Path, scratch: Path) -> str:
    """A word of an example with the paths of this test."""
    for written, path in (("/store", mount.store), ("/mnt/models", mount.point), ("~", home)):
        if word == written or word.startswith(written + "/"):
            return os.fspath(path) + word[len(written) :]
    return os.fspath(scratch / word) if word == "report.html" else word


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_takes_a_store_says_so(name: str) -> None:
    done = zipfs(name)
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
