"""Whoever works in a mount knows its paths: every command takes them in place of the store's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts import Mount, poll, zipfs
from tests.support.stores import model, tuned, weights, write_tree

BASE = weights(30_000)
FILES = {
    b"base/model.safetensors": model(BASE),
    b"tuned/model.safetensors": model(tuned(BASE)),
    b"tuned/config.json": b'{"a": 1}',
}


@pytest.fixture(scope="module")
def filled(shared: Mount, tmp_path_factory: pytest.TempPathFactory) -> Mount:
    source = write_tree(tmp_path_factory.mktemp("in") / "org", FILES)
    assert zipfs("ingest", shared.point, source).returncode == 0  # the store is named by its mount point
    poll((shared.point / "org/tuned/config.json").exists)
    return shared


def out(*arguments: object) -> str:
    done = zipfs(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(*arguments: object) -> Any:
    return json.loads(out(*arguments, "--json"))


def test_a_path_in_a_mount_stands_for_store_and_path(filled: Mount) -> None:
    at = filled.point
    for command in (("explain",), ("stat",), ("ls", "-l")):
        wanted = out(*command, filled.store, "org/tuned")
        assert wanted == out(*command, at, "org/tuned") == out(*command, at / "org/tuned")
        assert wanted == out(*command, at / "org", "tuned") == out(*command, at / "ingest/org/tuned")
    assert out("cat", at / "org/tuned/config.json") == '{"a": 1}'
    file = at / "org/tuned/model.safetensors"
    assert ask("explain", file) == ask("explain", filled.store, "org/tuned/model.safetensors")


def test_the_mount_point_stands_for_the_store(filled: Mount, tmp_path: Path) -> None:
    at = filled.point
    assert ask("families", at) == ask("families", filled.store)
    assert ask("stat", at)["files"] == ask("stat", filled.store)["files"] == len(FILES)
    assert ask("fsck", at) == {"problems": [], "mended": []}
    assert ask("gc", at)["damaged"] == []
    assert ask("optimize", at, "--dry-run")["tensors_to_code"] == 0
    out("report", at, "-o", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 0


def test_what_concerns_a_whole_store_is_not_given_a_part_of_it(filled: Mount) -> None:
    for command in ("families", "gc", "fsck", "optimize", "rebuild", "ingest"):
        done = zipfs(command, filled.point / "org")
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
        assert "name the store, or its mount point" in done.stderr


def test_extract_and_rm_by_a_path_in_the_mount(filled: Mount, tmp_path: Path) -> None:
    out("extract", filled.point / "org/tuned", tmp_path / "copy")
    assert (tmp_path / "copy/config.json").read_bytes() == FILES[b"tuned/config.json"]
    assert (
        zipfs("extract", filled.point, tmp_path / "all").returncode == 2
    )  # DEST is missing, or PATH: not to be guessed
    assert not (tmp_path / "all").exists()
    out("ingest", filled.store, tmp_path / "copy", "--as", "org/again")
    poll((filled.point / "org/again/config.json").exists)
    done = zipfs("rm", filled.point / "org/again")
    assert done.returncode == 3
    assert "zipfs rm -r" in done.stderr
    assert zipfs("rm", "-r", filled.point).returncode == 2
    out("rm", "-r", filled.point / "org/again")
    poll(lambda: not (filled.point / "org/again").exists())


def test_a_mount_is_found_through_symlinks_and_from_inside(filled: Mount, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(filled.point / "org")
    assert out("cat", link / "tuned/config.json") == '{"a": 1}'
    assert out("cat", link, "tuned/../tuned/config.json") == '{"a": 1}'
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zipfs.cli", "cat", "config.json"],
        cwd=filled.point / "org/tuned",
        capture_output=True,
        check=False,
    )
    assert done.stdout == b'{"a": 1}', done.stderr


@pytest.fixture
def bound(filled: Mount, tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "bound"
    at.mkdir()
    subprocess.run(["mount", "--bind", filled.point / "org", at], check=True)
    yield at
    subprocess.run(["umount", at], check=True)


def test_a_directory_that_was_bound_elsewhere(filled: Mount, bound: Path) -> None:
    assert out("cat", bound / "tuned/config.json") == '{"a": 1}'
    assert ask("explain", bound / "tuned") == ask("explain", filled.store, "org/tuned")


def test_a_mount_that_hangs_holds_nobody_up(filled: Mount) -> None:
    os.kill(filled.pid, signal.SIGSTOP)
    try:
        done = zipfs("cat", filled.point / "org/tuned/config.json", timeout_s=30.0)
    finally:
        os.kill(filled.pid, signal.SIGCONT)
    assert (done.returncode, done.stdout) == (0, '{"a": 1}'), done.stderr
