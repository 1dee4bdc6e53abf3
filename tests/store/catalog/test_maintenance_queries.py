"""What checks, collections and repairs ask of the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import remove
from zipfs.errors import CatalogDamaged
from zipfs.store.objects.values import BlobId, PackName
from zipfs.store.store import Store


def test_a_sound_catalog_has_no_errors(store: Store) -> None:
    assert store.catalog.integrity_errors() == []
    assert store.catalog.missing_references() == []


def test_a_reference_to_what_is_missing_is_named(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    base = made[1][0]
    sql(store.catalog, "PRAGMA foreign_keys = OFF")
    sql(store.catalog, "DELETE FROM blobs WHERE id = ?", (base,))
    found = store.catalog.missing_references()
    assert {(row.table, row.parent) for row in found} == {("blobs", "blobs"), ("extents", "blobs")}
    assert {row.row_id for row in found if row.table == "blobs"} == {*made[1][2:]}
    assert store.catalog.blob_identity(base) is None
    assert not store.catalog.has_blob(base)


def test_blobs_by_their_packs(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    by_pack = store.catalog.blobs_by_pack()
    assert {*by_pack} == {*store.catalog.packs()}
    everything = {blob_id: nbytes for blobs in by_pack.values() for blob_id, nbytes in blobs}
    assert {*everything} == {*store.catalog.blob_ids()} >= {*made[1]}
    assert everything == {one: store.catalog.blob(one).stored_nbytes for one in everything}
    assert store.catalog.blob_sizes() == {one: store.catalog.blob(one).nbytes for one in everything}
    for name, blobs in by_pack.items():
        in_order = store.catalog.blob_ids_in(name)
        assert {*in_order} == {blob_id for blob_id, _ in blobs}
        offsets = [store.catalog.blob(one).pack_offset for one in in_order]
        assert offsets == sorted(offsets)
        assert store.catalog.blob_counts()[name] == len(blobs)
    assert store.catalog.blob_ids_in(PackName(bytes(16))) == []


def test_a_stored_length_that_is_none_is_damage(store: Store) -> None:
    sql(store.catalog, "PRAGMA ignore_check_constraints = ON")
    sql(store.catalog, "UPDATE blobs SET stored_nbytes = 'x'")
    with pytest.raises(CatalogDamaged, match="contradicts itself"):
        store.catalog.blobs_by_pack()


def test_what_lives_are_held_blobs_and_their_bases(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    base, apart, whole, half = made[1]
    assert {*made[1]} <= store.catalog.live_blob_ids()
    remove(store, b"base")
    assert store.catalog.live_blob_ids() & {*made[1]} == {base, whole, half}
    assert store.catalog.used_members_of(base) == sorted([whole, half])
    assert store.catalog.used_members_of(apart) == []


def test_a_catalog_that_is_made_anew_forgets_what_cannot_be_read(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    base, _, whole, half = made[1]
    users = {*store.catalog.users_of_blob(whole), *store.catalog.users_of_blob(half)}
    sql(store.catalog, "PRAGMA foreign_keys = OFF")
    with store.transaction() as txn:
        sql(store.catalog, "DELETE FROM blobs WHERE id = ?", (base,))
        lost = txn.drop_unreadable()
    assert users <= {*lost}
    assert not store.catalog.has_blob(whole)
    assert not store.catalog.has_blob(half)
    assert store.catalog.users_of_blob(whole) == []
    assert store.catalog.missing_references() == []


def test_files_are_counted_wherever_their_content_is(store: Store) -> None:
    files = [one for one in map(store.catalog.inode, store.catalog.inode_ids()) if one.kind == "file"]
    assert store.catalog.file_count() == len(files) == store.catalog.content_sizes().files
