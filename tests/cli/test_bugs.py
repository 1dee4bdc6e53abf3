"""An exception that nobody foresaw is told as a bug of ours, in a line, with where to find the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.mounts import REPOSITORY
from tests.support.stores import make_store

BUGGY = """
import sys
from zipfs.cli import main
from zipfs.store.namespace import tree
def mistaken(*_):
    raise TypeError("unsupported operand")
tree.resolve = mistaken
sys.argv = ["zipfs", "rm", sys.argv[1], "a"]
main()
"""


def test_an_exception_that_nobody_foresaw_is_told_as_a_bug(tmp_path: Path) -> None:
    path = make_store(tmp_path, {b"a": b"content"})
    done = subprocess.run(
        [sys.executable, "-c", BUGGY, path],
        cwd=REPOSITORY,
        env={"TMPDIR": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "bug in ZipFS" in done.stderr
    assert "damaged" not in done.stderr
    (kept,) = tmp_path.glob("zipfs-bug-*")
    assert str(kept) in done.stderr
    assert "mistaken" in kept.read_text()
