"""A dry run says what an ingest does, and writes nothing."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import pytest

from tests.ingest.test_plans import SCENARIOS, in_one_batch, named
from tests.support.stores import Listener, import_path, noise, put_file, served_inode, tensor_file, weights, write_tree
from zipfs.ingest.dry_run import DryRun, PlannedFile
from zipfs.ingest.import_tree import find
from zipfs.ingest.plan import Share
from zipfs.store.objects.values import BaseRef
from zipfs.store.store import Store, open_store

OLDEST_STORE = Path(__file__).parents[1] / "store" / "samples" / "format-1.zip"

Stored = tuple[int, int, str, int | None]
"""Offset and length of an extent, how it is stored, and where the blob or the base begins."""


def planned_files(store: Store, path: Path, served: bytes, listener: Listener | None = None) -> list[PlannedFile]:
    run = DryRun(store, listener or Listener())
    try:
        return list(run.plan(find(store, path, served).sources))
    finally:
        run.close()


def of_plan(one: PlannedFile) -> list[Stored]:
    return [
        (step.span.offset, step.span.nbytes, "share", step.blob_offset)
        if isinstance(step, Share)
        else (step.span.offset, step.span.nbytes, *_coded(step.choice.base))
        for step in one.plan.steps
    ]


def of_store(store: Store, path: bytes, seen: set[int]) -> list[Stored]:
    found: list[Stored] = []
    for extent in store.catalog.extents(served_inode(store, path)):
        if extent.blob_id in seen:
            found.append((extent.offset, extent.nbytes, "share", extent.blob_offset))
        else:
            found.append((extent.offset, extent.nbytes, *_coded(store.catalog.blob(extent.blob_id).base)))
        seen.add(extent.blob_id)
    return found


def _coded(base: BaseRef | None) -> tuple[str, int | None]:
    return ("standalone", None) if base is None else ("against", base.view.offset)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (way, _) in SCENARIOS.items() if way is in_one_batch])
def test_it_says_what_an_ingest_does(tmp_path: Path, name: str) -> None:
    tree = write_tree(tmp_path / "tree", named(SCENARIOS[name][1]()))
    with open_store(tmp_path / "store", create=True) as store:
        planned = planned_files(store, tree, b"m")
        assert store.catalog.packs() == {}
        assert import_path(store, tree, b"m").failures == []
        seen: set[int] = set()
        for one in planned:
            stored = of_store(store, b"m/" + Path(one.shown).name.encode(), seen)
            # A base that turns out to be of no help is the one thing that it cannot know.
            told = [said if did[2] != "standalone" else did for said, did in zip(of_plan(one), stored, strict=True)]
            assert told == stored


def test_stored_blobs_are_found_and_sizes_are_told(tmp_path: Path) -> None:
    base = tensor_file({"w": ("BF16", [60_000], weights(60_000))})
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"base", base)
        tree = write_tree(tmp_path / "tree", {b"a": base, b"b": noise(5000)})
        same, new = planned_files(store, tree, b"m")
        assert [isinstance(step, Share) for step in same.plan.steps] == [True, True]
        assert same.plan.predicted_nbytes == 0
        assert new.plan.predicted_nbytes == 5000
        assert (same.plan.unpredicted_nbytes, new.plan.unpredicted_nbytes) == (0, 5000)
        assert "equal bytes" in same.plan.as_text()


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_planned(tmp_path: Path) -> None:
    listener = Listener()
    tree = write_tree(tmp_path / "tree", {b"a": b"1", b"b": b"2"})
    with open_store(tmp_path / "store", create=True) as store:
        run = DryRun(store, listener)
        sources = find(store, tree, b"m").sources
        (tree / "a").unlink()
        planned = list(run.plan(sources))
        run.close()
    assert [Path(one.shown).name for one in planned] == ["b"]
    assert len(listener.failures) == 1


def test_a_file_that_is_put_together_of_more_files_than_are_kept_open_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipfs.ingest.dry_run._OPEN_SOURCES", 2)
    listener = Listener()
    tensors = [noise(5000, seed) for seed in range(4)]
    files = {f"{n}".encode(): tensor_file({"w": ("U8", [5000], tensors[n])}) for n in range(4)}
    whole = tensor_file({f"w{n}": ("U8", [5000], tensors[n]) for n in range(4)})
    tree = write_tree(tmp_path / "tree", {**files, b"whole": whole})
    with open_store(tmp_path / "store", create=True) as store:
        planned = planned_files(store, tree, b"m", listener)
    assert listener.failures == []
    assert sum(isinstance(step, Share) for step in planned[-1].plan.steps) == 4


def test_a_file_without_bytes_is_planned(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", {b"a": b"", b"b": tensor_file({"w": ("U8", [0], b"")})})
    with open_store(tmp_path / "store", create=True) as store:
        assert len(planned_files(store, tree, b"m")) == 2


def test_a_store_without_signatures_of_tensors_is_planned_for_and_left_as_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(OLDEST_STORE) as archive:
        archive.extractall(tmp_path)
    before = (tmp_path / "store" / "catalog.db").read_bytes()
    listener = Listener()
    with open_store(tmp_path / "store", read_only=True) as store:
        for name, (way, files) in SCENARIOS.items():
            if way is in_one_batch:
                tree = write_tree(tmp_path / name, named(files()))
                assert planned_files(store, tree, b"m", listener)
    assert listener.failures == []
    assert (tmp_path / "store" / "catalog.db").read_bytes() == before


def test_a_hole_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(b"head")
        file.truncate(30 << 20)
    with open_store(tmp_path / "store", create=True) as store:
        (planned,) = planned_files(store, path, b"sparse")
    assert planned.plan.predicted_nbytes < 1 << 20
    assert math.fsum(step.span.nbytes for step in planned.plan.steps) == 30 << 20
