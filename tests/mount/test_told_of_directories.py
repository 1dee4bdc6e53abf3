"""What is told of whole directories, and what `zipfs wait` tells whoever sees no progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, run, zipfs
from tests.support.stores import model, tuned, weights, write_tree

BASE = weights(30_000)
FILES = {
    b"base/model.safetensors": model(BASE),
    b"base/config.json": b"{}",
    b"tuned/model.safetensors": model(tuned(BASE)),
}


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.zipfs.{name}").decode()


def test_a_directory_has_the_sums_of_its_files(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts().start()
    run("cp", "-r", write_tree(tmp_path / "org", FILES), mount.ingest)
    mount.wait()
    top = mount.point / "org"
    files = [path for path in top.rglob("*") if path.is_file()]
    stored = sum(int(attribute(path, "stored")) for path in files)
    raw = sum(path.stat().st_size for path in files)
    assert int(attribute(top, "stored")) == int(attribute(mount.point, "stored")) == stored > 0
    assert attribute(top, "ratio") == f"{stored / raw:.4f}"
    assert attribute(top, "state") == "stored"
    assert float(attribute(top / "tuned", "ratio")) < 0.5 < float(attribute(top / "base", "ratio"))
    (top / "empty").mkdir()
    with pytest.raises(OSError, match="No data available"):
        attribute(top / "empty", "ratio")
    assert os.listxattr(top) == []  # not listed, so that copies do not take them along
    mount.remount("--read-only")
    assert int(attribute(top, "stored")) == stored


def test_wait_tells_what_was_compressed(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts("--quiet", "3").start()
    run("cp", "-r", write_tree(tmp_path / "org", FILES), mount.ingest)
    done = zipfs("wait", mount.point)
    assert done.returncode == 0
    assert "waiting for 3 files" in done.stderr
    assert "compressed 3 files; all in all 3 files: 117.3 KiB in " in done.stderr
    assert "compressed" not in zipfs("wait", mount.point).stderr
