"""A copy into the served tree of a mount that takes none is refused, leaves nothing, and says where it belongs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, poll, run, zipfs
from tests.support.stores import write_tree

pytestmark = pytest.mark.expected_log("files were refused here")

FILES = {b"a.txt": b"1", b"sub/b.txt": b"2", b"sub/deep/c.txt": b"3", b"config.json": b"{}"}


@pytest.fixture
def mount(mounts: Callable[..., Mount]) -> Mount:
    """A fresh mount that takes new content below `ingest/` only."""
    return mounts().start("--no-write")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "org/model/empty").mkdir(parents=True)
    return write_tree(tmp_path / "org/model", FILES)


def copy(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["cp", "-r", source, target], capture_output=True, text=True, check=False, timeout=60)


def test_cp_into_the_served_tree_leaves_nothing_behind(mount: Mount, source: Path) -> None:
    done = copy(source.parent, mount.point)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    poll(lambda: os.listdir(mount.point) == ["ingest"], what="what the copy has left to be taken away")
    assert "copy them into ingest/ instead" in mount.log()
    assert "copy them into ingest/ instead" in zipfs("status", mount.point).stdout
    assert copy(source.parent, mount.ingest).returncode == 0  # what it says to do works
    mount.stored("org/model/sub/deep/c.txt")


def test_directories_that_are_used_stay(mount: Mount, source: Path, tmp_path: Path) -> None:
    (tmp_path / "served").write_bytes(b"x")
    run("cp", tmp_path / "served", mount.ingest)
    mount.stored("served")
    for name in ("unused", "stood-in", "moved-into", "plain", "going"):
        (mount.point / name).mkdir()
    standing = subprocess.Popen(
        [sys.executable, "-P", "-c", "print(flush=True); input()"],
        cwd=mount.point / "stood-in", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert standing.stdout is not None
        standing.stdout.readline()
        for name in ("stood-in", "moved-into", "going"):
            with pytest.raises(OSError, match="Read-only file system"):
                (mount.point / name / "new").write_bytes(b"x")
        run("mv", mount.point / "served", mount.point / "moved-into")
        poll(lambda: not (mount.point / "going").exists(), what="the empty one to be taken away")
        assert sorted(os.listdir(mount.point)) == ["ingest", "moved-into", "plain", "stood-in", "unused"]
        assert os.listdir(mount.point / "moved-into") == ["served"]
    finally:
        standing.communicate(b"\n", timeout=60)


def test_directories_that_were_there_before_stay(mount: Mount, source: Path) -> None:
    (mount.ingest / "kept").mkdir()
    poll((mount.point / "kept").is_dir)
    copy(source, mount.point / "kept")
    poll(lambda: os.listdir(mount.point / "kept") == [], what="what the copy has left to be taken away")
    assert (mount.point / "kept").is_dir()
