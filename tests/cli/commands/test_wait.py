"""`zipfs wait` of a store that no mount serves; tests/mount has those of a mount."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import Run, assert_refused
from tests.support.stores import copy_in
from zipfs.store.store import open_store


def test_a_store_with_nothing_to_do_is_not_waited_for(run: Run, store: Path) -> None:
    done = run("wait", store)
    assert done.code == 0
    assert "5 files: " in done.err


def test_what_nothing_will_compress_is_not_waited_for(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        copy_in(opened, b"late", b"content")
    assert_refused(run("wait", store), 3, str(store), "1 file waits", "zipfs ingest")
    assert run("ingest", store).code == 0
    assert run("wait", store).code == 0


def test_unfinished_names_are_named(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        copy_in(opened, b"x.incomplete", b"1")
    done = run("wait", store)
    assert done.code == 1
    assert "x.incomplete: not served, for its name says that it is not finished" in done.err


def test_what_is_neither_a_mount_nor_a_store(run: Run, tmp_path: Path) -> None:
    assert_refused(run("wait", tmp_path), 3, str(tmp_path), "neither in a ZipFS mount nor a store")
