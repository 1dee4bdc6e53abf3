"""`zipfs stat`."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import FILES, Run


def test_sizes_for_people(run: Run, store: Path) -> None:
    text = run("stat", store).out.decode()
    assert "5 files in 3 directories" in text
    assert " on disk (" in text
    assert " on disk (" not in run("stat", store, "m/sub").out.decode()


def test_sizes_for_programs(run: Run, store: Path) -> None:
    found = run("stat", store, "--json").json
    assert (found["files"], found["nbytes"]) == (len(FILES), sum(map(len, FILES.values())))
    assert found["disk_nbytes"] >= sum(found["disk"].values()) > 0
    assert run("stat", store, "m/sub", "--json").json["files"] == 2
