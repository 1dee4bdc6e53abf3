"""`zipfs gc`."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused


def test_removing_and_collecting(run: Run, store: Path) -> None:
    assert_refused(run("rm", store, "m"), 3, "m", "directory")
    assert run("rm", store, "m/base.safetensors").code == 0
    assert run("gc", store).code == 0
    assert run("cat", store, "m/tuned.safetensors").out == FILES[b"tuned.safetensors"]
    assert run("rm", "-r", store, "m").code == 0
    assert run("gc", store, "--json").json["freed_nbytes"] > 0
    assert run("ls", store).out == b""
    assert list((store / "packs").iterdir()) == []


def test_where_there_is_nothing_to_free(run: Run, store: Path) -> None:
    assert set(run("gc", store, "--json").json) >= {"freed_nbytes", "packs_deleted", "damaged"}
    assert "freed 0 B: 0 packs deleted, 0 of them rewritten" in run("gc", store).err
