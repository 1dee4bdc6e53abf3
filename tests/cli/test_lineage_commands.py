"""`zipfs families` and `zipfs explain`: what they print for people and for programs, of good stores and bad ones."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Run, assert_refused
from tests.support.hub import Hub, Made
from tests.support.sample import SAMPLES, files
from tests.support.stores import copy_in, model, put_file, remove, tensor_file, tuned, weights
from zipfs.cli.render.table import lay_out_table
from zipfs.ingest.queue import seal_everything
from zipfs.store.store import open_store

ITEMS = 30_000
BASE = weights(ITEMS)
NORM = weights(600, 3)
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\n\"'&"


def two_layers(raw: bytes, norm: bytes = NORM) -> bytes:
    half = len(raw) // 2
    return tensor_file(
        {
            "layers.0.w": ("BF16", [half // 2], raw[:half]),
            "layers.1.w": ("BF16", [half // 2], raw[half:]),
            "norm": ("BF16", [len(norm) // 2], norm),
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lineage")
    path = root / "store"
    with open_store(path, create=True) as store:
        put_file(store, root, b"org/base/model.safetensors", two_layers(BASE))
        put_file(store, root, b"org/base/config.json", b'{"a": 1}' * 20)
        put_file(store, root, b"me/tuned/model.safetensors", two_layers(tuned(BASE)))
        put_file(store, root, b"me/tuned/config.json", b'{"a": 1}' * 20)
        wide = b"".join(b"\0\0" + BASE[at : at + 2] for at in range(0, len(BASE), 2))
        put_file(store, root, b"me/wide/model.safetensors", tensor_file({"w": ("F32", [ITEMS], wide)}))
        put_file(store, root, b"README.md", b"hello")
        store.catalog.query("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def check(document: Any, schema: Any, where: str = "") -> None:
    """A document has a form: types at the leaves, {"*": form} for any keys, (a, b) for either."""
    if isinstance(schema, tuple):
        errors = []
        for one in schema:
            try:
                check(document, one, where)
            except AssertionError as error:
                errors.append(str(error))
            else:
                return
        raise AssertionError(f"{where}: {errors}")
    if isinstance(schema, list):
        assert isinstance(document, list), where
        for number, one in enumerate(document):
            check(one, schema[0], f"{where}[{number}]")
    elif isinstance(schema, dict):
        assert isinstance(document, dict), where
        for key, value in document.items():
            assert key in schema or "*" in schema, f"{where}: {key} is not documented"
            check(value, schema.get(key, schema.get("*")), f"{where}.{key}")
        assert set(schema) - {"*"} <= set(document), where
    elif schema is None:
        assert document is None, where
    else:
        assert type(document) is schema, f"{where}: {document!r} is no {schema}"


SIZES = {"nbytes": int, "stored_nbytes": int}
WAYS = {"*": SIZES}
PLACE = (None, {"path": str, "tensor": (None, str)})
FAMILIES = {
    **SIZES,
    "saved_nbytes": int,
    "added_nbytes": int,
    "kept_nbytes": int,
    "unused_nbytes": int,
    "index_nbytes": int,
    "freeable_nbytes": int,
    "other_formats": {"*": {"files": int, **SIZES}},
    "other_files": {"files": int, **SIZES},
    "spool": {"files": int, **SIZES},
    "families": [
        {
            "root": str,
            **SIZES,
            "saved_nbytes": int,
            "kept_nbytes": int,
            "members": [
                {
                    "path": str,
                    "parent": (None, str),
                    "files": int,
                    "tensors": int,
                    **SIZES,
                    "saved_nbytes": int,
                    "carried_nbytes": int,
                    "ways": WAYS,
                    "rests_on": [{"path": str, "nbytes": int}],
                }
            ],
        }
    ],
}
FILE = {
    "path": str,
    "type": str,
    "state": str,
    "format": (None, str),
    "kept_as_bytes": (None, str),
    **SIZES,
    "ways": WAYS,
    "bits_per_weight": (None, float),
    "tensors": [
        {
            "name": (None, str),
            "dtype": str,
            "shape": [int],
            "offset": int,
            **SIZES,
            "bits_per_weight": (None, float),
            "parts": [
                {
                    "offset": int,
                    "way": str,
                    **SIZES,
                    "blob_nbytes": int,
                    "blob_stored_nbytes": int,
                    "shared_with": PLACE,
                    "base": (None, {"of": PLACE, "dtype": str, "offset": int, "nbytes": int, "cast": (None, str)}),
                    "members": int,
                    "predicted": (
                        None,
                        {
                            "base_bits": (None, float),
                            "alone_bits": float,
                            "next_bits": (None, float),
                            "next": PLACE,
                        },
                    ),
                }
            ],
        }
    ],
}
SUMMARY = {
    "path": str,
    "type": str,
    "state": str,
    **SIZES,
    "ways": WAYS,
    "bits_per_weight": (None, float),
    "rests_on": [{"path": str, "nbytes": int}],
}
DIRECTORY = {"path": str, "type": str, **SIZES, "ways": WAYS, "files": [(SUMMARY, FILE)]}


# Families


def test_families_for_programs(run: Run, store: Path) -> None:
    found = run("families", store, "--json").json
    check(found, FAMILIES)
    (family,) = found["families"]
    assert family["root"] == "org/base"
    assert [(one["path"], one["parent"]) for one in family["members"]] == [
        ("org/base", None),
        ("me/wide", "org/base"),
        ("me/tuned", "org/base"),
    ]
    assert found["other_files"]["files"] == 1
    assert found["nbytes"] == run("stat", store, "--json").json["nbytes"]
    assert found["stored_nbytes"] == run("stat", store, "--json").json["stored_nbytes"]
    assert found["saved_nbytes"] == found["nbytes"] - found["stored_nbytes"] > 0


def test_families_for_people(run: Run, store: Path) -> None:
    lines = run("families", store).out.decode().splitlines()
    assert lines[0].split()[:3] == ["model", "size", "added"]
    names = [line.split("  ")[0] for line in lines if "org/base" in line or "me/" in line]
    assert names == ["org/base", "├─ me/wide", "└─ me/tuned"]
    assert any(line.startswith("3 models") for line in lines)
    assert lines[-1].startswith("all: ")
    assert "1 file outside of models: 5 B in" in "\n".join(lines)


def test_output_is_the_same_each_time(run: Run, store: Path) -> None:
    for command in (["families"], ["families", "--json"], ["explain", "--json", "--tensors"], ["explain", "--tensors"]):
        arguments = [command[0], store, *command[1:]]
        assert run(*arguments).out == run(*arguments).out != b""


# Explain


def test_a_fine_tune_is_explained(run: Run, store: Path) -> None:
    found = run("explain", store, "me/tuned/model.safetensors", "--json").json
    check(found, FILE)
    assert (found["format"], found["state"]) == ("safetensors", "stored")
    header, first, second, norm = found["tensors"]
    assert (header["name"], header["dtype"], header["bits_per_weight"]) == (None, "", None)
    assert [one["name"] for one in (first, second, norm)] == ["layers.0.w", "layers.1.w", "norm"]
    (part,) = second["parts"]
    assert part["way"] == "delta"
    assert part["base"]["of"] == {"path": "org/base/model.safetensors", "tensor": "layers.1.w"}
    assert part["predicted"]["base_bits"] == pytest.approx(second["bits_per_weight"], abs=0.5)
    assert part["predicted"]["alone_bits"] > 10
    assert norm["parts"][0]["shared_with"] == {"path": "org/base/model.safetensors", "tensor": "norm"}
    assert norm["bits_per_weight"] == 0
    assert sum(one["nbytes"] for one in found["tensors"]) == found["nbytes"]
    assert sum(one["stored_nbytes"] for one in found["tensors"]) == found["stored_nbytes"]
    assert sum(one["nbytes"] for one in found["ways"].values()) == found["nbytes"]


def test_casts_are_explained(run: Run, store: Path) -> None:
    found = run("explain", store, "me/wide/model.safetensors", "--json").json
    parts = [part for one in found["tensors"] for part in one["parts"] if part["way"] == "cast"]
    assert {part["base"]["cast"] for part in parts} == {"BF16>F32"}
    text = run("explain", store, "me/wide/model.safetensors").out.decode()
    assert "against BF16 as F32 [1] layers.0.w" in text
    assert "in 2 parts" in text


def test_a_file_for_people(run: Run, store: Path) -> None:
    text = run("explain", store, "me/tuned/model.safetensors").out.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("layers.1.w")]
    assert "BF16 15000" in line
    assert "against [1]" in line
    assert "[1] org/base/model.safetensors" in text
    assert "same as [1]" in text
    assert "base of 2" in run("explain", store, "org/base/model.safetensors").out.decode()


def test_a_directory_is_told_by_file(run: Run, store: Path) -> None:
    found = run("explain", store, "me", "--json").json
    check(found, DIRECTORY)
    assert [one["path"] for one in found["files"]] == [
        "me/tuned/config.json",
        "me/tuned/model.safetensors",
        "me/wide/model.safetensors",
    ]
    one = found["files"][1]
    assert one["rests_on"][0]["path"] == "org/base/model.safetensors"
    single = run("explain", store, "me/tuned/model.safetensors", "--json").json
    assert {key: one[key] for key in ("nbytes", "stored_nbytes", "ways", "bits_per_weight")} == {
        key: single[key] for key in ("nbytes", "stored_nbytes", "ways", "bits_per_weight")
    }
    assert found["nbytes"] == sum(one["nbytes"] for one in found["files"])
    text = run("explain", store, "me").out.decode()
    assert "tuned/model.safetensors" in text
    assert "3 files: " in text


def test_a_directory_with_its_tensors(run: Run, store: Path) -> None:
    found = run("explain", store, "--tensors", "--json").json
    check(found, DIRECTORY)
    assert len(found["files"]) == 6
    assert found["files"][-1] == run("explain", store, "org/base/model.safetensors", "--json").json
    assert b"layers.1.w" in run("explain", store, "--tensors").out


def test_what_was_removed_is_said(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        remove(opened, b"org")
    text = run("explain", store, "me/tuned/model.safetensors").out.decode()
    assert "against a file that was removed" in text
    found = run("explain", store, "me/tuned/model.safetensors", "--json").json
    check(found, FILE)
    assert found["tensors"][1]["parts"][0]["base"]["of"] is None
    assert run("families", store, "--json").json["families"][0]["kept_nbytes"] > 0
    assert "of it bases whose own files are gone" in run("families", store).out.decode()


def test_a_file_that_cannot_be_taken_apart(run: Run, store: Path, tmp_path: Path) -> None:
    with open_store(store) as opened:
        put_file(opened, tmp_path / "x", b"odd.bin", b"\x08\0\0\0\0\0\0\0{broken}")
    found = run("explain", store, "odd.bin", "--json").json
    check(found, FILE)
    assert found["format"] == "opaque"
    assert [one["name"] for one in found["tensors"]] == [None]
    assert "(bytes 0 to 16)" in run("explain", store, "odd.bin").out.decode()


def test_files_that_are_only_in_the_spool(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        copy_in(opened, b"late/model.safetensors", model(BASE))
        copy_in(opened, b"late/empty", b"")
        seal_everything(opened)
    found = run("explain", store, "late/model.safetensors", "--json").json
    check(found, FILE)
    assert (found["state"], found["tensors"], list(found["ways"])) == ("sealed", [], ["spool"])
    assert "not compressed yet" in run("explain", store, "late/model.safetensors").out.decode()
    check(run("explain", store, "late", "--json").json, DIRECTORY)
    families = run("families", store, "--json").json
    check(families, FAMILIES)
    assert families["spool"]["files"] == 2
    assert "2 files" in run("families", store).out.decode()
    assert "are not compressed yet" in run("families", store).out.decode()


# Names


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


# Bad stores


def test_an_empty_store(run: Run, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True):
        pass
    found = run("families", tmp_path / "store", "--json").json
    check(found, FAMILIES)
    assert found["families"] == []
    assert run("families", tmp_path / "store").out == b"all: 0 B in 0 B (-), 0 B saved\n"
    check(run("explain", tmp_path / "store", "--json").json, DIRECTORY)
    assert run("explain", tmp_path / "store").out == b"0 files: 0 B in 0 B (-)\n"


def test_an_empty_file(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        copy_in(opened, b"empty", b"")
        seal_everything(opened)
    check(run("explain", store, "empty", "--json").json, FILE)
    assert run("explain", store, "empty").out.decode().startswith("empty: 0 B in 0 B (-)")


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
def test_damaged_rows_are_one_clear_line(change: str, words: list[str], run: Run, store: Path) -> None:
    db = sqlite3.connect(store / "catalog.db", isolation_level=None)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute(change)
    db.close()
    for command in (["families"], ["explain"], ["report", "-o", store.parent / "report.html"]):
        assert_refused(run(command[0], store, *command[1:]), 5, "catalog is damaged", "zipfs fsck", *words)
    assert not (store.parent / "report.html").exists()


def test_paths_that_are_not_there(run: Run, store: Path) -> None:
    for path in ("missing", "README.md/below", "../x"):
        assert_refused(run("explain", store, path), 3, path)


def test_a_damaged_header_leaves_its_tensors_without_names(run: Run, store: Path) -> None:
    for pack in (store / "packs").iterdir():
        content = bytearray(pack.read_bytes())
        content[64:-200] = bytes(max(0, len(content) - 264))
        pack.write_bytes(content)
    found = run("explain", store, "me/tuned/model.safetensors", "--json").json
    check(found, FILE)
    assert found["format"] is None
    assert [one["name"] for one in found["tensors"]] == [None] * 4
    assert [one["dtype"] for one in found["tensors"]] == ["", "BF16", "BF16", "BF16"]
    assert run("explain", store, "me/tuned/model.safetensors").code == 0


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
