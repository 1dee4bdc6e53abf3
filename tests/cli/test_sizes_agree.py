"""Whichever command is asked what a store holds and takes, it tells the same, whatever has been done to the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import Run
from tests.support.mounts import zipfs
from tests.support.stores import (
    badly_based_family,
    copy_in,
    import_path,
    make_store,
    model,
    noise,
    served_inode,
    tuned,
    weights,
    write_tree,
)
from zipfs.cli.render.units import size
from zipfs.ingest.queue import seal_everything
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import ROOT
from zipfs.store.store import open_store

pytestmark = pytest.mark.slow

BASE = weights(60_000)


def sizes(run: Run, store: Path) -> dict[str, int]:
    """What `stat` tells, once all others were seen to tell the same."""
    stat = run("stat", store, "--json").json
    status = run("status", store, "--json").json
    families = run("families", store, "--json").json
    assert (status["queued_files"], status["unsealed_files"]) == (0, 0)
    assert stat["files"] == status["stored_files"]
    assert stat["nbytes"] == families["nbytes"] == status["stored_raw_nbytes"]
    assert stat["stored_nbytes"] == families["stored_nbytes"] == status["packs_nbytes"]
    parts = ("added_nbytes", "kept_nbytes", "unused_nbytes", "index_nbytes")
    assert sum(stat[part] for part in parts) == stat["stored_nbytes"]
    assert all(stat[part] == families[part] for part in (*parts, "freeable_nbytes"))
    assert stat["kept_nbytes"] >= sum(family["kept_nbytes"] for family in families["families"])

    rows = [row for row in run("ls", "-r", store, "--json").json if row["type"] == "file"]
    assert sum(row["stored_nbytes"] for row in rows) == stat["added_nbytes"]
    of_models = sum(one["stored_nbytes"] for family in families["families"] for one in family["members"])
    assert of_models + families["other_files"]["stored_nbytes"] == stat["added_nbytes"]
    tops = run("ls", store, "--json").json
    assert sum(run("stat", store, top["path"], "--json").json["stored_nbytes"] for top in tops) == stat["added_nbytes"]
    with open_store(store, read_only=True) as opened:
        for row in rows:  # what `du` shows of a mount
            assert served_inode(opened, row["path"].encode()).stored_nbytes == row["stored_nbytes"], row["path"]

    ratio = f"({100 * stat['stored_nbytes'] / max(stat['nbytes'], 1):.1f}%)" if stat["nbytes"] else "(-)"
    for command in ("stat", "status", "families"):
        assert ratio in run(command, store).out.decode(), command
    return {name: stat[name] for name in (*parts, "stored_nbytes", "freeable_nbytes", "nbytes")}


@pytest.fixture
def store(run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "store"
    family = {b"base/model.safetensors": model(BASE), b"base/config.json": b"{}"}
    family |= {b"%d/model.safetensors" % seed: model(tuned(BASE, seed)) for seed in range(3)}
    family |= {b"copy/model.safetensors": model(BASE), b"noise/junk": noise(30_000)}
    write_tree(tmp_path / "all", family)
    for name in ("base", "0", "1", "2", "copy", "noise"):
        assert run("ingest", path, tmp_path / "all" / name).code == 0
    return path


def test_sizes_agree_when_a_base_is_removed_and_collected(run: Run, store: Path) -> None:
    before = sizes(run, store)
    assert before["kept_nbytes"] == before["unused_nbytes"] == before["freeable_nbytes"] == 0
    assert run("rm", "-r", store, "base").code == 0
    shared = sizes(run, store)  # its copy has all of it
    assert shared["kept_nbytes"] == 0
    assert shared["added_nbytes"] == pytest.approx(before["added_nbytes"], rel=0.01)  # all but its config.json
    assert run("rm", "-r", store, "copy").code == 0
    kept = sizes(run, store)
    assert kept["kept_nbytes"] > 0.8 * kept["added_nbytes"]
    assert "bases whose own files were removed" in run("stat", store).out.decode()
    assert "bases whose own files were removed" in run("families", store).out.decode()
    assert run("rm", "-r", store, "noise").code == 0
    freeable = sizes(run, store)["freeable_nbytes"]
    assert freeable > 30_000
    assert "`zipfs gc` frees them" in run("families", store).out.decode()
    assert run("gc", store, "--json").json["freed_nbytes"] == freeable
    after = sizes(run, store)
    assert after["kept_nbytes"] == kept["kept_nbytes"]
    assert after["freeable_nbytes"] == 0
    assert "gc" not in run("families", store).out.decode()


def test_nothing_is_said_to_be_freed_by_gc_that_it_does_not_free(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    source = write_tree(tmp_path / "one", {b"large": noise(400_000), b"small": noise(40_000, 1)})
    assert run("ingest", store, source).code == 0
    assert run("rm", store, "one/small").code == 0
    for _ in range(2):
        found = sizes(run, store)
        assert (found["freeable_nbytes"], found["unused_nbytes"] >= 40_000) == (0, True)
        for command in ("stat", "families"):
            text = run(command, store).out.decode()
            assert "frees them" not in text
            assert "stay for now" in text
        assert run("gc", store, "--json").json["freed_nbytes"] == 0


def test_sizes_agree_when_bases_are_chosen_anew(run: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path, badly_based_family(60_000))
    before = sizes(run, store)
    told = json.loads(zipfs("optimize", store, "--json").stdout)
    after = sizes(run, store)
    assert told["tensors_coded"] > 0
    assert (told["before_nbytes"], told["after_nbytes"]) == (before["stored_nbytes"], after["stored_nbytes"])


def test_optimize_tells_what_the_store_took_and_takes_and_no_third_size(run: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path, badly_based_family(60_000))
    took = size(sizes(run, store)["stored_nbytes"])
    text = zipfs("optimize", store).stderr
    assert f"the store took {took} before and takes {size(sizes(run, store)['stored_nbytes'])} now\n" in text
    assert "freed" not in text


def test_what_is_not_compressed_yet_counts_as_it_is(run: Run, store: Path) -> None:
    before = sizes(run, store)
    with open_store(store) as opened:
        copy_in(opened, b"late/model.safetensors", model(BASE))
        seal_everything(opened)
    stat = run("stat", store, "--json").json
    families = run("families", store, "--json").json
    assert stat["nbytes"] == families["nbytes"] == before["nbytes"] + len(model(BASE))
    assert stat["stored_nbytes"] == families["stored_nbytes"] == before["stored_nbytes"] + len(model(BASE))
    assert run("ingest", store).code == 0
    assert sizes(run, store)["added_nbytes"] == before["added_nbytes"]


def test_a_file_of_several_names_counts_once(run: Run, store: Path) -> None:
    before = sizes(run, store)
    with open_store(store) as opened, opened.transaction() as txn:
        inode = tree.resolve(txn.catalog, b"noise/junk")
        tree.link(txn, ROOT, b"other-name", inode, Event.SERVE)
    assert run("stat", store, "--json").json["files"] == run("status", store, "--json").json["stored_files"]
    assert run("stat", store, "--json").json["nbytes"] == before["nbytes"]


def test_a_file_that_is_stored_later_than_a_newer_one_of_the_same_content(
    run: Run, store: Path, tmp_path: Path
) -> None:
    content = noise(50_000, 7)
    with open_store(store) as opened:
        copy_in(opened, b"late/junk", content)
        seal_everything(opened)
    (tmp_path / "early").write_bytes(content)
    with open_store(store) as opened:  # what waits is not compressed
        import_path(opened, tmp_path / "early", b"early")
    assert run("ingest", store).code == 0
    sizes(run, store)
