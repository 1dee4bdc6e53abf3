"""Names that people would not give: printed harmlessly, on one line, by every command and in every message."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.commands import Done, Run
from tests.support.stores import model, tuned, weights, write_tree
from zipfs.cli.main import COMMANDS

ESCAPE = b"esc\x1b[31mred\nline\x07"
NAMES = (b"-x", ESCAPE, b"\xff\xfe", b'q"uote', b" ", b"--json", b"\xe2\x80\xaeright to left")
BASE = weights(30_000)


@pytest.fixture
def store(run: Run, tmp_path: Path) -> Path:
    files = {b"m/" + name + b"/model.safetensors": model(tuned(BASE, seed)) for seed, name in enumerate(NAMES)}
    source = write_tree(tmp_path / "in", files | {b"m/" + name + b"/" + name: name for name in NAMES})
    os.symlink(ESCAPE, source / "m/link")
    assert run("ingest", tmp_path / "store", source / "m").code == 0
    return tmp_path / "store"


def assert_harmless(done: Done) -> None:
    text = done.out.decode() + done.err
    assert "Traceback" not in text
    assert all(character.isprintable() or character == "\n" for character in text), ascii(text)
    assert "line\\x07" not in text or "red\\nline" in text  # not broken where the name would break it


def _not_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_listed_read_and_removed(name: bytes, run: Run, store: Path, tmp_path: Path) -> None:
    path = b"m/" + name + b"/" + name
    for command in ("ls", "stat", "explain"):
        done = run(command, store, path)
        assert done.code == 0, done.err
        assert_harmless(done)
    assert run("cat", store, "--", path).out == name
    assert run("extract", store, path, tmp_path / "out").code == 0
    assert (tmp_path / "out").read_bytes() == name
    assert run("ingest", store, tmp_path / "out", "--as", b"./" + name).code == 0
    assert run("cat", store, "--", name).out == name  # also at the top, where it looks like an option
    assert run("rm", store, "--", name).code == 0
    assert run("rm", "-r", store, b"m/" + name).code == 0
    assert run("cat", store, "--", path).code == 3


def test_everything_that_is_printed_is_harmless(run: Run, store: Path, tmp_path: Path) -> None:
    commands = (["ls", "-r"], ["ls", "-lr"], ["stat"], ["families"], ["explain"], ["explain", "--tensors"], ["status"])
    for command in (*commands, ["optimize", "--dry-run"], ["fsck"], ["gc"]):
        done = run(command[0], *command[1:], store)
        assert done.code == 0, done.err
        assert_harmless(done)
    for name in ("ls", "stat", "families", "explain", "status", "optimize", "fsck", "gc"):
        text = run(name, store, "--json").out
        assert json.loads(text, parse_constant=_not_json) is not None
        assert all(32 <= byte < 127 or byte == 10 for byte in text), name


@pytest.mark.parametrize("name", NAMES)
def test_messages_about_any_name_are_one_harmless_line(name: bytes, run: Run, store: Path, tmp_path: Path) -> None:
    missing = os.fsencode(tmp_path) + b"/" + name
    calls: list[tuple[object, ...]] = [(command, store, "--", b"no/" + name) for command in ("ls", "stat", "cat", "rm")]
    calls += [("extract", store, "--", b"no/" + name, tmp_path / "x"), ("explain", store, "--", b"no/" + name)]
    calls += [("extract", store, "m", missing + b"/deep/er"), ("ingest", store, missing)]
    calls += [("report", store, "-o", missing + b"/deep/er")]
    calls += [
        (command, missing)
        for command in COMMANDS
        if command not in ("mount", "ingest", "cat", "rm", "extract", "report", "umount")
    ]
    for call in calls:
        done = run(*call)
        assert done.code == 3, (call, done.err)
        assert done.err.count("\n") == 1, (call, done.err)
        assert_harmless(done)


def test_the_top_by_all_its_names(run: Run, store: Path) -> None:
    for path in ("", ".", "/", "./", "m/.."):
        assert run("ls", store, path).out == run("ls", store).out
    for path in ("", ".", "/"):
        done = run("rm", "-r", store, path)
        assert (done.code, "the top of a store cannot be removed" in done.err) == (3, True)
        assert run("rm", store, path).err == done.err
