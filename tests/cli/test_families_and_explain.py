"""`zipfs families` and `zipfs explain` of good stores and bad ones."""

from __future__ import annotations

import json
import os
import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import BASE, Run, assert_refused
from tests.support.documents import DIRECTORY, FAMILIES, FILE, check
from tests.support.hub import Hub, Made
from tests.support.sample import SAMPLES, files
from tests.support.stores import put_file, tensor_file
from zipfs.cli.render.table import lay_out_table
from zipfs.store.store import open_store

ITEMS = 30_000
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\n\"'&"


def test_output_is_the_same_each_time(run: Run, family_store: Path) -> None:
    for command in (["families"], ["families", "--json"], ["explain", "--json", "--tensors"], ["explain", "--tensors"]):
        arguments = [command[0], family_store, *command[1:]]
        assert run(*arguments).out == run(*arguments).out != b""


def test_hostile_names_are_printed_harmlessly(run: Run, tmp_path: Path) -> None:
    name = os.fsencode(HOSTILE.replace("/", "-"))
    tensors = tensor_file({HOSTILE: ("BF16", [ITEMS], BASE), "": ("U8", [1], b"x")})
    with open_store(tmp_path / "store", create=True) as opened:
        put_file(opened, tmp_path / "x", name + b"/\xff.safetensors", tensors)
        put_file(opened, tmp_path / "x", b"b/" + name, tensors[:-1] + b"y")
    for command in ("families", "explain"):
        for options in ([], ["--json"]):
            done = run(command, tmp_path / "store", *options)
            assert done.code == 0
            for bad in ("\x1b", "\u202e", "\udcff"):
                assert bad not in done.out.decode()
    found = run("explain", tmp_path / "store", b"b/" + name, "--json")
    check(found.json, FILE)
    assert found.json["tensors"][1]["name"].startswith("<script>alert(1)</script>\\x1b[31m")
    text = run("explain", tmp_path / "store", b"b/" + name).out.decode()
    assert "\x1b" not in text
    assert "alert(1)" in text


def test_an_empty_store(run: Run, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True):
        pass
    found = run("families", tmp_path / "store", "--json").json
    check(found, FAMILIES)
    assert found["families"] == []
    assert run("families", tmp_path / "store").out == b"all: 0 B in 0 B (-), 0 B saved\n"
    check(run("explain", tmp_path / "store", "--json").json, DIRECTORY)
    assert run("explain", tmp_path / "store").out == b"0 files: 0 B in 0 B (-)\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE extents SET nbytes = nbytes + 1 WHERE offset > 0", ["extents of inode"]),
        ("UPDATE inodes SET nbytes = nbytes + 1 WHERE kind = 'file'", ["row of inode"]),
        ("UPDATE entries SET inode_id = 1", ["does not match its checksum"]),
        ("DELETE FROM blobs WHERE base_id IS NULL AND dtype <> ''", ["blob", "is missing"]),
        ("UPDATE blobs SET frames = x'' WHERE base_id IS NULL", ["row of blob"]),
    ],
)
def test_damaged_rows_are_one_clear_line(change: str, words: list[str], run: Run, family_store: Path) -> None:
    db = sqlite3.connect(family_store / "catalog.db", isolation_level=None)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute(change)
    db.close()
    for command in (["families"], ["explain"], ["report", "-o", family_store.parent / "report.html"]):
        assert_refused(run(command[0], family_store, *command[1:]), 5, "catalog is damaged", "zipfs fsck", *words)
    assert not (family_store.parent / "report.html").exists()


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def test_stores_of_older_versions(sample: Path, run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(sample) as archive:
        archive.extractall(tmp_path)
    store = tmp_path / "store"
    before = (store / "catalog.db").read_bytes()
    check(run("families", store, "--json").json, FAMILIES)
    found = run("explain", store, "--tensors", "--json").json
    check(found, DIRECTORY)
    assert len(found["files"]) == len(files(int(sample.stem.removeprefix("format-"))))
    assert run("report", store, "-o", tmp_path / "report.html").code == 0
    assert (store / "catalog.db").read_bytes() == before  # looking changes nothing


def test_tables_of_wide_stores_fit(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "store", create=True) as opened:
        hub = Hub(opened)
        spec = [Made(f"model.a.very.deep.module.layers.{at}.projection.weight", (64, 64)) for at in range(4)]
        ids = hub.add_model("an-organisation-with-a-long-name/a-model-with-a-long-name-as-well", spec)
        hub.add_model("b", [Made(one.name, (64, 64), base=base) for one, base in zip(spec, ids, strict=True)])
        hub.finish()
    widths: list[int | None] = [72, 80, 120]
    for width in widths:
        monkeypatch.setattr("zipfs.cli.commands.families.terminal_width", lambda width=width: width)
        monkeypatch.setattr("zipfs.cli.commands.explain.terminal_width", lambda width=width: width)
        for arguments in (["families"], ["explain"], ["explain", "b/model.safetensors"]):
            lines = run(arguments[0], tmp_path / "store", *arguments[1:]).out.decode().splitlines()
            table = [line for line in lines if "KiB  " in line or line.startswith(("model ", "tensor ", "file "))]
            assert table
            assert all(len(line) <= (width or 0) for line in table), (width, arguments)
    assert json.loads(run("families", tmp_path / "store", "--json").out)
    assert list(lay_out_table([], [], 80)) == [""]
