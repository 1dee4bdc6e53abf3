"""`zipfs status` of a store that no mount serves; tests/mount has those of a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import Run, assert_refused
from tests.support.stores import copy_in
from zipfs.store.store import open_store


def test_a_store_with_nothing_to_do(run: Run, store: Path) -> None:
    status = run("status", store, "--json").json
    assert (status["queued_files"], status["unsealed_files"], status["mounted"]) == (0, 0, False)
    assert "queued      0 files, 0 B" in run("status", store).out.decode()


def test_what_waits_is_told(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        copy_in(opened, b"late", b"content")
        copy_in(opened, b"x.incomplete", b"1")
    text = run("status", store).out.decode()
    assert "not sealed  1 file" in text
    assert "unfinished  x.incomplete (waits for its final name)" in text


def test_only_a_mount_has_counters(run: Run, store: Path) -> None:
    assert_refused(run("status", "--perf", store), 3, str(store), "no ZipFS store is mounted there")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b"nul", b"{}", b'{"format": 99}'])
def test_counters_that_cannot_be_read_are_one_clear_line(content: bytes, run: Run, store: Path) -> None:
    (store / ".zipfs").mkdir()
    (store / ".zipfs" / "perf.json").write_bytes(content)
    assert_refused(run("status", "--perf", store), 3, str(store), "another version")
