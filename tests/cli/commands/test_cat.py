"""`zipfs cat`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused
from tests.support.mounts import REPOSITORY
from tests.support.stores import contents, noise


def test_a_directory_has_no_content(run: Run, store: Path) -> None:
    for path in ("m", "", "/", "m/sub/"):
        assert_refused(run("cat", store, path), 3, "directory")
    assert run("rm", "-r", store, "").code == 3
    assert run("rm", "-r", store, "/").code == 3
    assert contents(store) != {}


def test_a_broken_pipe_is_no_reason_to_complain(store: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "large").write_bytes(noise(3 << 20, 1))
    assert run("ingest", store, tmp_path / "large").code == 0
    command = f"{sys.executable} -m zipfs.cli cat {store} large | head -c 10 | wc -c"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("10", "")


def test_dots_in_a_path_lead_where_they_lead_in_a_tree(run: Run, store: Path) -> None:
    for path in ("m/sub/../config.json", "./m/./config.json", "m/sub/../../m/config.json"):
        assert run("cat", store, path).out == FILES[b"config.json"]
    for path in ("m/config.json/../config.json", "m/missing/../config.json", "../m/config.json"):
        done = run("cat", store, path)
        assert_refused(done, 3, path)
        assert "moved" not in done.err  # nothing is moved
