"""`zipfs optimize` in a process of its own: what it says, what it leaves alone, and how it stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, poll, zipfs
from tests.support.stores import all_problems, badly_based_family, contents, make_store

FAMILY = badly_based_family(60_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path, FAMILY)


def test_a_dry_run_tells_what_would_be_saved_and_a_run_saves_it(path: Path) -> None:
    packs = sorted((path / "packs").iterdir())
    foretold = zipfs("optimize", path, "--dry-run", "--json")
    assert foretold.returncode == 0, foretold.stderr
    predicted = json.loads(foretold.stdout)
    assert predicted["tensors_to_code"] == len(FAMILY)
    assert 0 < predicted["gain_nbytes"] < predicted["before_nbytes"]
    assert sorted((path / "packs").iterdir()) == packs
    done = zipfs("optimize", path, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["saved_nbytes"] == pytest.approx(predicted["gain_nbytes"], rel=0.1)
    assert told["tensors_coded"] == len(FAMILY)
    assert told["freed_nbytes"] > 0
    assert not told["stopped"]
    assert contents(path) == FAMILY
    assert all_problems(path) == []


@pytest.mark.slow
def test_people_are_told_in_words(path: Path) -> None:
    assert "would save" in zipfs("optimize", path, "--dry-run").stderr
    assert "rebased 7 tensors" in zipfs("optimize", path).stderr
    assert "nothing was worth rebasing" in zipfs("optimize", path).stderr


def test_what_the_limit_leaves_out_is_told(path: Path) -> None:
    done = zipfs("optimize", path, "--limit-bytes", "100K")
    assert done.returncode == 0, done.stderr
    assert "left to the next run" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_leaves_the_store_whole(number: signal.Signals, path: Path) -> None:
    command = [sys.executable, "-m", "zipfs.cli", "optimize", str(path), "--rate", "1K"]
    running = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    try:
        poll(lambda: any(part.suffix == ".part" for part in (path / "packs").iterdir()), what="it to begin a pack")
        running.send_signal(number)
        _, said = running.communicate(timeout=180)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "the next run goes on from there" in said
    assert "Traceback" not in said
    assert all_problems(path) == []
    assert contents(path) == FAMILY
    assert zipfs("optimize", path).returncode == 0
    assert all_problems(path) == []


def test_a_store_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    done = zipfs("optimize", tmp_path)
    assert done.returncode == 3
    assert "is not a ZipFS store" in done.stderr
