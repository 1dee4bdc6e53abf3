"""What is made anew is what an ingest makes; what others collect or rebase meanwhile is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import (
    blob_ids,
    changed,
    collect_garbage,
    contents,
    make_store,
    model,
    problems,
    remove,
    weights,
)
from zipfs.bases.similarity import backfill
from zipfs.bases.similarity.backfill import backfill_samples, backfill_sketches
from zipfs.bases.similarity.feature_reader import read_sample
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store, open_store

FILES = {b"kept": model(weights(5000, 1)), b"gone": model(weights(5000, 2)), b"last": model(weights(5000, 3))}


@pytest.mark.parametrize(
    ("make", "step", "table"),
    [(backfill_sketches, "_features", "signatures"), (backfill_samples, "_sample", "anchors")],
)
def test_a_tensor_that_is_collected_while_it_is_sketched_is_passed_over(
    make: Callable[[Store, Callable[[str, int, int], None]], int],
    step: str,
    table: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make_store(tmp_path, FILES)
    original = getattr(backfill, step)
    collected = False

    def sketched(*arguments: object) -> object:
        nonlocal collected
        made = original(*arguments)
        if not collected:
            collected = True
            with open_store(path) as other:
                for name in (b"kept", b"gone"):
                    remove(other, name)
                collect_garbage(other)
        return made

    monkeypatch.setattr(backfill, step, sketched)
    with open_store(path) as store:
        sql(store.catalog, f"DELETE FROM {table}")
        assert make(store, lambda what, done, total: None) == len(FILES)
        assert len(sql(store.catalog, f"SELECT DISTINCT blob_id FROM {table}")) == 1
        assert problems(store) == []
    assert contents(path) == {b"last": FILES[b"last"]}


SMALL, LARGE = weights(40_000, 4), weights(600_000, 5)
FAMILIES = {
    b"small": model(SMALL),
    b"small-member": model(changed(SMALL, 2, 0.3, 6)),
    b"large": model(LARGE),
    b"large-member": model(changed(LARGE, 2, 0.3, 7)),
}
TABLES = ("signatures", "sketches", "landmarks", "anchors")


def rows(store: Store) -> dict[str, set[tuple[object, ...]]]:
    return {table: set(sql(store.catalog, f"SELECT * FROM {table}")) for table in TABLES}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(make_store(tmp_path, FAMILIES)) as opened:
        yield opened


def tell_nothing(what: str, done: int, total: int) -> None:
    del what, done, total


def test_the_backfill_of_a_rebuilt_catalog_makes_what_an_ingest_made(store: Store) -> None:
    made = rows(store)
    assert {table: len(found) for table, found in made.items()} == {
        "signatures": 4,  # of all
        "sketches": 2,  # of the large ones
        "landmarks": 3,  # of all but the small base
        "anchors": 8 + 32,  # of the bases
    }
    for table in TABLES:
        sql(store.catalog, f"DELETE FROM {table}")
    assert backfill_sketches(store, tell_nothing) == 4
    assert backfill_samples(store, tell_nothing) == 2  # small ones have been sampled with the first
    assert rows(store) == made
    assert backfill_sketches(store, tell_nothing) == backfill_samples(store, tell_nothing) == 0


def test_index_keys_alone_are_made_anew(store: Store) -> None:
    made = rows(store)
    sql(store.catalog, "DELETE FROM anchors WHERE blob_id = (SELECT min(blob_id) FROM anchors)")
    assert backfill_samples(store, tell_nothing) == 1
    assert rows(store) == made


def test_samples_of_members_that_were_kept_whole_are_shortened(store: Store) -> None:
    """Those of bases are kept whole still."""
    made = rows(store)
    member_ids = [BlobId(blob_ids(store, name)[-1]) for name in (b"small-member", b"large-member")]
    samples = {blob_id: read_sample(store, store.open_blob(blob_id)) for blob_id in member_ids}
    with store.transaction() as txn:
        for blob_id, sample in samples.items():
            assert sample is not None
            txn.put_samples(blob_id, sample.kept(is_member=True).encode())
    assert rows(store)["landmarks"] != made["landmarks"]
    assert backfill_sketches(store, tell_nothing) == 0
    assert rows(store) == made


def test_what_is_no_sample_is_left_as_it_is(store: Store) -> None:
    member_id = blob_ids(store, b"small-member")[-1]
    sql(store.catalog, "UPDATE landmarks SET landmarks = x'0100' WHERE blob_id = ?", (member_id,))
    made = rows(store)
    backfill_sketches(store, tell_nothing)
    assert rows(store) == made
