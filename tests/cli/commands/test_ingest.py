"""`zipfs ingest`."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused
from tests.support.stores import contents, tensor_file, write_tree


def test_storing_again_replaces_and_storing_the_same_costs_nothing(run: Run, store: Path, source: Path) -> None:
    packs = sorted((store / "packs").iterdir())
    assert run("ingest", store, source, "--as", "copy").code == 0
    assert sorted((store / "packs").iterdir()) == packs
    (source / "config.json").write_bytes(b"changed")
    assert run("ingest", store, source).code == 0
    assert run("cat", store, "m/config.json").out == b"changed"
    assert run("cat", store, "copy/config.json").out == FILES[b"config.json"]


def test_a_base_is_used_whatever_its_name(run: Run, store: Path) -> None:
    rows = {row["path"]: row for row in run("ls", store, "m", "--json").json}
    tuned_row = rows["m/tuned.safetensors"]
    assert tuned_row["stored_nbytes"] < 0.4 * tuned_row["nbytes"]


def test_no_store_is_made_among_other_files(run: Run, tmp_path: Path, source: Path) -> None:
    path = write_tree(tmp_path / "photos", {b"photo.jpg": b"mine"})
    assert_refused(run("ingest", path, source), 3, str(path), "photo.jpg")
    assert os.listdir(path) == ["photo.jpg"]
    (tmp_path / "file").write_bytes(b"")
    assert_refused(run("ingest", tmp_path / "file", source), 3, str(tmp_path / "file"))
    assert_refused(run("ingest", tmp_path / "file" / "below", source), 3, "file")


def test_sources_that_cannot_be_stored(run: Run, store: Path, tmp_path: Path) -> None:
    before = contents(store)
    assert_refused(run("ingest", store, tmp_path / "missing"), 3, "missing")
    write_tree(tmp_path / "x", {b"f": b"1"})
    for name in ("ingest", ".zipfs", "ingest/below", "../up", "a/../../b", "", "/"):
        assert_refused(run("ingest", store, tmp_path / "x", "--as", name), 3)
    assert_refused(run("ingest", store, tmp_path / "x", "--as", "m/config.json"), 3, "config.json")
    assert_refused(run("ingest", store, tmp_path / "x", "--as", "n" * 300), 3, "nnn")
    assert_refused(run("ingest", store, tmp_path / "x" / "f", "--as", "m"), 3, "m")
    assert contents(store) == before
    assert run("fsck", store, "--read-data").code == 0


def test_special_files_and_unfinished_names_are_left_out_and_named(run: Run, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "m", {b"a": b"1", b"b.incomplete": b"2"})
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
        done = run("ingest", tmp_path / "store", source)
    assert done.code == 1
    for name in ("pipe", "socket", "b.incomplete"):
        assert f"left out {source / name}" in done.err
    assert contents(tmp_path / "store") == {b"m/a": b"1"}


def test_two_paths_at_once_and_a_trailing_slash(run: Run, tmp_path: Path) -> None:
    one, two = (write_tree(tmp_path / name, {b"f": name.encode()}) for name in ("one", "two"))
    assert run("ingest", tmp_path / "store", f"{one}/", two).code == 0
    assert contents(tmp_path / "store") == {b"one/f": b"one", b"two/f": b"two"}


def test_a_named_symlink_is_followed_and_others_are_kept(run: Run, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "real", {b"f": b"1"})
    os.symlink("f", source / "link")
    os.symlink(source, tmp_path / "alias")
    assert run("ingest", tmp_path / "store", tmp_path / "alias", "--as", "n").code == 0
    assert contents(tmp_path / "store") == {b"n/f": b"1"}
    assert run("cat", tmp_path / "store", "n/link").out == b"1"


def test_odd_tensor_files_pass_through_the_command_line(run: Run, tmp_path: Path) -> None:
    content = tensor_file({"a": ("U8", [3], b"123"), "e": ("F32", [0], b""), "b": ("BOOL", [1], b"\1")})
    (tmp_path / "odd.safetensors").write_bytes(content)
    assert run("ingest", tmp_path / "store", tmp_path / "odd.safetensors").code == 0
    assert run("cat", tmp_path / "store", "odd.safetensors").out == content
    shutil.rmtree(tmp_path / "store")


def test_ingest_names_what_it_leaves_out_and_stores_it_when_told_to(run: Run, tmp_path: Path) -> None:
    files = {
        b"a.json": b"1", b"uv.lock": b"2", b"x.incomplete": b"3", b".git/HEAD": b"4",
        b"m.bin": b"5", b"m.bin.aria2": b"6", b"dir.lock/x": b"7",
    }  # fmt: skip
    source = write_tree(tmp_path / "m", files)
    store = tmp_path / "store"
    done = run("ingest", store, source)
    assert done.code == 1
    for name in ("x.incomplete", ".git", "m.bin", "m.bin.aria2"):
        assert f"left out {source / name}:" in done.err
    assert "--unfinished none" in done.err
    assert set(contents(store)) == {b"m/a.json", b"m/uv.lock", b"m/dir.lock/x"}
    assert run("ingest", store, source / "x.incomplete").code == 1
    done = run("ingest", store, source, "--unfinished", "none")
    assert (done.code, done.err.count("left out")) == (0, 0)
    assert contents(store) == {b"m/" + name: content for name, content in files.items()}


def written(store: Path) -> dict[Path, int]:
    """Every file of a store but those that SQLite makes to read it, and when it was written."""
    return {
        path: path.stat().st_mtime_ns
        for path in store.rglob("*")
        if path.is_file() and path.suffix not in (".db-shm", ".db-wal")
    }


def test_a_dry_run_tells_what_each_tensor_would_be_stored_as_and_writes_nothing(
    run: Run, store: Path, tmp_path: Path
) -> None:
    before = written(store)
    new = write_tree(tmp_path / "new", {b"same.safetensors": FILES[b"base.safetensors"], b"n.json": b'{"new": 1}' * 9})
    done = run("ingest", "--dry-run", store, new)
    assert done.code == 0
    told = done.out.decode()
    assert f"{new / 'same.safetensors'}: " in told
    assert "same as m/base.safetensors" in told
    assert "equal bytes" in told
    assert "nothing was written" in told + done.err
    assert written(store) == before
    assert run("stat", store, "new").code != 0


def test_a_dry_run_takes_a_missing_store_for_an_empty_one(run: Run, tmp_path: Path, source: Path) -> None:
    done = run("ingest", "--dry-run", tmp_path / "none", source)
    assert done.code == 0
    assert "against" in done.out.decode()
    assert not (tmp_path / "none").exists()
    photos = write_tree(tmp_path / "photos", {b"photo.jpg": b"mine"})
    assert_refused(run("ingest", "--dry-run", photos, source), 3, str(photos))
