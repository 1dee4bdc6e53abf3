"""`zipfs ls`."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import Run


def test_a_list_for_people(run: Run, store: Path) -> None:
    assert run("ls", store).out == b"m/\n"
    long = run("ls", "-l", store, "m").out.decode()
    assert "base.safetensors" in long
    assert "-rw-r--r--" in long
    assert "\\udcff\\udcfe" in run("ls", store, "m/sub").out.decode()
    assert run("ls", store, "m/config.json").out == b"m/config.json\n"


def test_a_list_for_programs(run: Run, store: Path) -> None:
    rows = run("ls", "-r", store, "--json").json
    assert {row["path"] for row in rows if row["type"] == "file"} >= {"m/base.safetensors", "m/sub/empty"}
    (row,) = [row for row in rows if row["path"] == "m/config.json"]
    assert (row["nbytes"], row["state"], len(row["sha256"])) == (8, "stored", 64)
