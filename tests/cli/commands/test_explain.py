"""`zipfs explain`: what it prints for people and for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import BASE, Run, assert_refused
from tests.support.documents import DIRECTORY, FAMILIES, FILE, check
from tests.support.sql import sql
from tests.support.stores import copy_in, model, put_file, remove
from zipfs.ingest.queue import seal_everything
from zipfs.store.store import open_store


def test_a_fine_tune_is_explained(run: Run, family_store: Path) -> None:
    found = run("explain", family_store, "me/tuned/model.safetensors", "--json").json
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
    assert [one["parts"][0]["reason"] for one in (header, second, norm)] == ["equal", "smallest", "equal"]
    assert norm["parts"][0]["shared_with"] == {"path": "org/base/model.safetensors", "tensor": "norm"}
    assert norm["bits_per_weight"] == 0
    assert sum(one["nbytes"] for one in found["tensors"]) == found["nbytes"]
    assert sum(one["stored_nbytes"] for one in found["tensors"]) == found["stored_nbytes"]
    assert sum(one["nbytes"] for one in found["ways"].values()) == found["nbytes"]


def test_casts_are_explained(run: Run, family_store: Path) -> None:
    found = run("explain", family_store, "me/wide/model.safetensors", "--json").json
    parts = [part for one in found["tensors"] for part in one["parts"] if part["way"] == "cast"]
    assert {part["base"]["cast"] for part in parts} == {"BF16>F32"}
    text = run("explain", family_store, "me/wide/model.safetensors").out.decode()
    assert "against BF16 as F32 [1] layers.0.w" in text
    assert "in 2 parts" in text


def test_a_file_for_people(run: Run, family_store: Path) -> None:
    text = run("explain", family_store, "me/tuned/model.safetensors").out.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("layers.1.w")]
    assert "BF16 15000" in line
    assert "against [1]" in line
    assert "[1] org/base/model.safetensors" in text
    assert "same as [1]" in text
    assert "predicted to be smallest" in line
    assert "base of 2" in run("explain", family_store, "org/base/model.safetensors").out.decode()


def test_a_reason_that_is_not_known_is_not_guessed(run: Run, family_store: Path) -> None:
    with open_store(family_store) as opened:
        sql(opened.catalog, "DELETE FROM signatures")
    found = run("explain", family_store, "me/tuned/model.safetensors", "--json").json
    check(found, FILE)
    assert [one["parts"][0]["reason"] for one in found["tensors"]] == ["equal", None, None, "equal"]
    assert "not known" in run("explain", family_store, "me/tuned/model.safetensors").out.decode()


def test_a_directory_is_told_by_file(run: Run, family_store: Path) -> None:
    found = run("explain", family_store, "me", "--json").json
    check(found, DIRECTORY)
    assert [one["path"] for one in found["files"]] == [
        "me/tuned/config.json",
        "me/tuned/model.safetensors",
        "me/wide/model.safetensors",
    ]
    one = found["files"][1]
    assert one["rests_on"][0]["path"] == "org/base/model.safetensors"
    single = run("explain", family_store, "me/tuned/model.safetensors", "--json").json
    assert {key: one[key] for key in ("nbytes", "stored_nbytes", "ways", "bits_per_weight")} == {
        key: single[key] for key in ("nbytes", "stored_nbytes", "ways", "bits_per_weight")
    }
    assert found["nbytes"] == sum(one["nbytes"] for one in found["files"])
    text = run("explain", family_store, "me").out.decode()
    assert "tuned/model.safetensors" in text
    assert "3 files: " in text


def test_a_directory_with_its_tensors(run: Run, family_store: Path) -> None:
    found = run("explain", family_store, "--tensors", "--json").json
    check(found, DIRECTORY)
    assert len(found["files"]) == 6
    assert found["files"][-1] == run("explain", family_store, "org/base/model.safetensors", "--json").json
    assert b"layers.1.w" in run("explain", family_store, "--tensors").out


def test_what_was_removed_is_said(run: Run, family_store: Path) -> None:
    with open_store(family_store) as opened:
        remove(opened, b"org")
    text = run("explain", family_store, "me/tuned/model.safetensors").out.decode()
    assert "against a file that was removed" in text
    found = run("explain", family_store, "me/tuned/model.safetensors", "--json").json
    check(found, FILE)
    assert found["tensors"][1]["parts"][0]["base"]["of"] is None
    assert run("families", family_store, "--json").json["families"][0]["kept_nbytes"] > 0
    assert "of it bases whose own files are gone" in run("families", family_store).out.decode()


def test_a_file_that_cannot_be_taken_apart(run: Run, family_store: Path, tmp_path: Path) -> None:
    with open_store(family_store) as opened:
        put_file(opened, tmp_path / "x", b"odd.bin", b"\x08\0\0\0\0\0\0\0{broken}")
    found = run("explain", family_store, "odd.bin", "--json").json
    check(found, FILE)
    assert found["format"] == "opaque"
    assert [one["name"] for one in found["tensors"]] == [None]
    assert "(bytes 0 to 16)" in run("explain", family_store, "odd.bin").out.decode()


def test_files_that_are_only_in_the_spool(run: Run, family_store: Path) -> None:
    with open_store(family_store) as opened:
        copy_in(opened, b"late/model.safetensors", model(BASE))
        copy_in(opened, b"late/empty", b"")
        seal_everything(opened)
    found = run("explain", family_store, "late/model.safetensors", "--json").json
    check(found, FILE)
    assert (found["state"], found["tensors"], list(found["ways"])) == ("sealed", [], ["spool"])
    assert "not compressed yet" in run("explain", family_store, "late/model.safetensors").out.decode()
    check(run("explain", family_store, "late", "--json").json, DIRECTORY)
    families = run("families", family_store, "--json").json
    check(families, FAMILIES)
    assert families["spool"]["files"] == 2
    assert "2 files" in run("families", family_store).out.decode()
    assert "are not compressed yet" in run("families", family_store).out.decode()


def test_an_empty_file(run: Run, family_store: Path) -> None:
    with open_store(family_store) as opened:
        copy_in(opened, b"empty", b"")
        seal_everything(opened)
    check(run("explain", family_store, "empty", "--json").json, FILE)
    assert run("explain", family_store, "empty").out.decode().startswith("empty: 0 B in 0 B (-)")


def test_paths_that_are_not_there(run: Run, family_store: Path) -> None:
    for path in ("missing", "README.md/below", "../x"):
        assert_refused(run("explain", family_store, path), 3, path)


def test_a_damaged_header_leaves_its_tensors_without_names(run: Run, family_store: Path) -> None:
    for pack in (family_store / "packs").iterdir():
        content = bytearray(pack.read_bytes())
        content[64:-200] = bytes(max(0, len(content) - 264))
        pack.write_bytes(content)
    found = run("explain", family_store, "me/tuned/model.safetensors", "--json").json
    check(found, FILE)
    assert found["format"] is None
    assert [one["name"] for one in found["tensors"]] == [None] * 4
    assert [one["dtype"] for one in found["tensors"]] == ["", "BF16", "BF16", "BF16"]
    assert run("explain", family_store, "me/tuned/model.safetensors").code == 0
