"""What is told by the names that people use: models of other formats, and files of the hub's cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.commands import Run
from tests.support.stores import model, noise, tuned, weights, write_tree

BASE = weights(40_000)
CACHED = "models--org--small"


def test_models_of_other_formats_are_named_as_such(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    files = {
        b"a/model.safetensors": model(BASE),
        b"a/pytorch_model.h5": noise(90_000, 3),
        b"b/one.GGUF": noise(80_000),
        b"b/pytorch_model.bin": noise(70_000, 1),
    }
    files |= {b"b/two.gguf": noise(80_000, 2), b"b/training_args.bin": b"settings", b"b/README.md": b"hello"}
    assert run("ingest", store, write_tree(tmp_path / "m", files)).code == 0
    text = run("families", store).out.decode()
    assert "2 .gguf files: 156.2 KiB in " in text
    assert "1 .bin file: 68.4 KiB in " in text
    assert "no tensors were found in these" in text
    assert "1 .h5 file: 87.9 KiB in " in text  # though a model lies beside it
    assert "2 files outside of models: 13 B in" in text
    found = run("families", store, "--json").json
    assert found["other_formats"][".gguf"]["files"] == 2
    assert found["other_files"]["files"] == 5
    explained = run("explain", store, "m/b/one.GGUF").out.decode()
    assert "kept as bytes: it begins like no format that is taken apart" in explained
    assert run("explain", store, "m/b/one.GGUF", "--json").json["kept_as_bytes"]
    assert "kept as bytes" not in run("explain", store, "m/a/model.safetensors").out.decode()
    assert "4 files that look like models are kept as bytes" in run("explain", store, "m").out.decode()
    assert run("report", store, "-o", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "2 .gguf files" in page
    assert "No tensors were found in these" in page


def test_a_broken_file_is_said_to_be_kept_as_bytes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(noise(5_000))
    assert run("ingest", tmp_path / "store", tmp_path / "x.safetensors").code == 0
    assert (
        "it begins like no format that is taken apart"
        in run("explain", tmp_path / "store").out.decode()
        + run("explain", tmp_path / "store", "x.safetensors").out.decode()
    )


@pytest.fixture
def cache(run: Run, tmp_path: Path) -> Path:
    """A store with a cache of the hub: a model in two revisions, and a fine-tune of it elsewhere."""
    source = write_tree(
        tmp_path / "hub" / CACHED,
        {b"blobs/%064x" % 1: model(BASE), b"blobs/%064x" % 2: b"{}", b"blobs/%064x" % 3: model(weights(40_000, 9))},
    )
    for revision, blob in (("aaaa", 1), ("bbbb", 3)):
        (source / "snapshots" / revision / "sub").mkdir(parents=True)
        os.symlink(f"../../blobs/{blob:064x}", source / "snapshots" / revision / "model.safetensors")
        os.symlink(f"../../../blobs/{2:064x}", source / "snapshots" / revision / "sub" / "config.json")
    write_tree(tmp_path / "mine", {b"model.safetensors": model(tuned(BASE))})
    store = tmp_path / "store"
    assert run("ingest", store, tmp_path / "hub").code == 0
    assert run("ingest", store, tmp_path / "mine").code == 0
    return store


def test_a_cache_of_the_hub_is_told_by_the_names_of_models(run: Run, cache: Path, tmp_path: Path) -> None:
    at = f"hub/{CACHED}/snapshots"
    text = run("families", cache).out.decode()
    assert f"{at}/aaaa" in text
    assert "blobs" not in text
    found = run("families", cache, "--json").json
    roots = {family["root"] for family in found["families"]}
    assert roots == {f"{at}/aaaa", f"{at}/bbbb"}
    assert f"{at}/aaaa/model.safetensors" in run("explain", cache, "mine/model.safetensors").out.decode()
    one = run("explain", cache, f"{at}/aaaa/model.safetensors").out.decode()
    assert one.startswith(f"{at}/aaaa/model.safetensors: ")
    files = run("explain", cache, f"{at}/bbbb", "--json").json["files"]
    assert [file["path"] for file in files] == [f"{at}/bbbb/model.safetensors"]
    by_hash = run("explain", cache, f"hub/{CACHED}/blobs", "--json").json["files"]
    assert len(by_hash) == 3
    assert run("report", cache, "-o", tmp_path / "page.html").code == 0
    assert "000000000000000000" not in (tmp_path / "page.html").read_text()


def test_a_cached_file_that_no_snapshot_names_is_told_by_its_hash(run: Run, tmp_path: Path) -> None:
    write_tree(tmp_path / "hub" / CACHED, {b"blobs/abc": model(BASE)})
    os.makedirs(tmp_path / "hub" / CACHED / "snapshots/r")
    os.symlink("../../../../elsewhere", tmp_path / "hub" / CACHED / "snapshots/r/odd")
    assert run("ingest", tmp_path / "store", tmp_path / "hub").code == 0
    assert f"hub/{CACHED}/blobs" in run("families", tmp_path / "store").out.decode()
