"""What base search and planning ask of the catalog; rows that were damaged are left out, not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sql import sql
from zipfs.store.catalog.similarity_queries import Member, StoredSamples, TensorGroup
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store

NBYTES = 64 * 64 * 2
SKETCH, SIGNATURE = b"sketch of %d", b"signature of %d".ljust(31, b".")


@pytest.fixture
def ids(store: Store, made: tuple[Path, list[BlobId]]) -> list[BlobId]:
    """The base, the one apart, the whole and the half of `made`; all but the second have sketches and samples."""
    base, apart, whole, half = made[1]
    with store.transaction() as txn:
        for blob_id in (base, whole, half):
            txn.put_signature(blob_id, _signature(blob_id))
            txn.put_sketch(blob_id, SKETCH % blob_id)
            txn.put_samples(blob_id, b"samples of %d" % blob_id)
        txn.put_index_keys(base, [1, 2, 3])
        txn.put_index_keys(apart, [3])
    return [base, apart, whole, half]


def _signature(blob_id: int) -> bytes:
    return b"signature of %d" % blob_id + bytes(32 - len(b"signature of %d" % blob_id))


def test_blobs_are_found_by_most_of_their_index_keys(store: Store, ids: list[BlobId]) -> None:
    base, apart, *_ = ids
    assert store.catalog.blobs_with_index_keys([1, 2, 3, 4], 9) == [base, apart]
    assert store.catalog.blobs_with_index_keys([3], 9) == [apart, base]  # of equally good ones the newest first
    assert store.catalog.blobs_with_index_keys([1, 2, 3], 1) == [base]
    with store.transaction() as txn:
        txn.drop_index_keys(base, [1, 2, 3])
    assert store.catalog.blobs_with_index_keys([1, 2, 3], 9) == [apart]


def test_a_key_that_many_blobs_have_takes_no_more(store: Store) -> None:
    with store.transaction() as txn:
        for blob_id in range(1, 40):
            txn.put_index_keys(BlobId(blob_id), [7])
    assert len(store.catalog.blobs_with_index_keys([7], 99)) == 16


def test_samples_of_bases_and_of_members_are_apart(store: Store, ids: list[BlobId]) -> None:
    base, apart, whole, half = ids
    assert [store.catalog.has_samples(blob_id) for blob_id in (base, apart, BlobId(999))] == [True, False, False]
    assert store.catalog.samples_of_standalone([apart, whole, base]) == [
        StoredSamples(apart, "BF16", 8 * 8 * 2, b""),  # in the order in which they are asked for
        StoredSamples(base, "BF16", NBYTES, b"samples of %d" % base),
    ]
    assert {row.blob_id for row in store.catalog.samples_of_members([base], 9)} == {whole, half}
    assert [row.blob_id for row in store.catalog.samples_of_members([base], 1)] == [max(whole, half)]


def test_sketches_and_signatures(store: Store, ids: list[BlobId]) -> None:
    base, apart, whole, half = ids
    assert store.catalog.sketches(ids) == {one: SKETCH % one for one in (base, whole, half)}
    assert store.catalog.standalone_of([whole, apart, base, 999]) == [apart, base]
    assert store.catalog.signatures([apart, whole]) == {whole: _signature(whole)}
    assert store.catalog.signatures_of_group("BF16", NBYTES) == sorted(
        [(base, _signature(base)), (whole, _signature(whole))]
    )
    assert store.catalog.signatures_of_standalone("BF16", NBYTES, 0) == [(base, _signature(base))]
    assert store.catalog.signatures_of_standalone("BF16", NBYTES, base) == []
    assert store.catalog.signatures_of_members(base, NBYTES, 9) == [(whole, _signature(whole))]  # not of a half view


def test_what_was_damaged_is_left_out_and_made_anew(store: Store, ids: list[BlobId]) -> None:
    base, apart, whole, half = ids
    assert store.catalog.blobs_without_signature(1, 1) == [apart]
    assert store.catalog.blobs_without_samples(1, 0) == [apart]
    sql(store.catalog, "PRAGMA ignore_check_constraints = ON")
    sql(store.catalog, "UPDATE signatures SET signature = x'00' WHERE blob_id = ?", (whole,))
    sql(store.catalog, "UPDATE sketches SET sketch = 7 WHERE blob_id = ?", (whole,))
    sql(store.catalog, "UPDATE landmarks SET landmarks = 7 WHERE blob_id = ?", (base,))
    assert whole not in store.catalog.signatures(ids)
    assert whole not in store.catalog.sketches(ids)
    assert {one.samples for one in store.catalog.samples_of_standalone(ids)} == {b""}
    assert store.catalog.blobs_without_signature(1, 1) == sorted([apart, whole])
    assert store.catalog.blobs_without_signature(1, NBYTES + 1) == [apart]  # members of that length are few
    assert half in store.catalog.sketches(ids)


def test_what_a_plan_needs(store: Store, ids: list[BlobId]) -> None:
    base, apart, whole, half = ids
    assert store.catalog.tensor_groups(1) == [TensorGroup("BF16", NBYTES, 2)]
    assert store.catalog.tensor_groups(NBYTES + 1) == []
    assert store.catalog.dtype_and_nbytes_of_standalone(base, NBYTES) == ("BF16", NBYTES)
    assert store.catalog.dtype_and_nbytes_of_standalone(base, NBYTES + 1) is None
    assert store.catalog.dtype_and_nbytes_of_standalone(whole, 1) is None
    assert store.catalog.whole_view_members(base, "BF16", NBYTES, 9) == [whole]
    assert sorted(store.catalog.used_members([base, apart])) == sorted(
        [Member(base, whole, True), Member(base, half, False)]
    )
    planned = {row.blob_id: row for row in store.catalog.planned_tensors(ids)}
    assert list(planned) == sorted(ids)
    assert planned[base].base_id is None
    assert planned[whole].base_id == planned[half].base_id == base
    assert (planned[whole].is_whole_view, planned[half].is_whole_view) == (True, False)
    assert all(row.is_used for row in planned.values())


def test_samples_of_small_bases_are_known_by_their_index_keys(store: Store, ids: list[BlobId]) -> None:
    base, apart, _, half = ids
    with store.transaction() as txn:
        for blob_id in (base, half):
            txn.drop_samples(blob_id)
        txn.drop_index_keys(apart, [3])
    assert store.catalog.blobs_without_samples(1, NBYTES) == [apart, half]
    assert store.catalog.blobs_without_samples(1, NBYTES - 1) == sorted([base, apart, half])


def test_members_are_found_by_the_version_of_their_samples(store: Store, ids: list[BlobId]) -> None:
    base, _, whole, half = ids
    first, second = sorted([whole, half])
    with store.transaction() as txn:
        for blob_id in (base, whole, half):
            txn.put_samples(blob_id, b"\x01 of %d" % blob_id)

    def found(version: int, after: int, at_most: int) -> list[BlobId]:
        return [one.blob_id for one in store.catalog.members_with_samples_of_version(version, after, at_most)]

    assert found(1, 0, 9) == [first, second]
    assert found(1, 0, 1) == [first]
    assert found(1, first, 9) == [second]
    assert found(2, 0, 9) == []


def test_stale_index_keys_go(store: Store, ids: list[BlobId]) -> None:
    with store.transaction() as txn:
        txn.put_index_keys(BlobId(999), [1])
        txn.drop_stale_index_keys()
    assert store.catalog.blobs_with_index_keys([1], 9) == [ids[0]]


def test_whether_a_blob_has_a_base(store: Store, ids: list[BlobId]) -> None:
    base, _, whole, _ = ids
    assert store.catalog.is_member(base) is False
    assert store.catalog.is_member(whole) is True
    assert store.catalog.is_member(BlobId(999)) is None
