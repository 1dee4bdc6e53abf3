"""The sizes of a store add up: each blob counts for the first file that holds it."""

from __future__ import annotations

from pathlib import Path

from tests.support.stores import copy_in, noise, remove, served_inode
from zipfs.store.objects.values import INGEST_ROOT, ROOT, BlobId, State
from zipfs.store.store import Store


def stored_nbytes(store: Store, *blob_ids: BlobId) -> int:
    return sum(store.catalog.blob(blob_id).stored_nbytes for blob_id in blob_ids)


def test_what_files_added_and_what_stays_of_them(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    base, apart, whole, half = made[1]
    before = store.catalog.store_sizes(freeable_nbytes=5)
    assert before.content == store.catalog.content_sizes()
    assert before.freeable_nbytes == 5
    assert before.files == before.content.files > 2
    assert before.stored_nbytes == sum(store.catalog.packs().values())
    assert before.added_nbytes + before.index_nbytes == before.stored_nbytes
    assert before.kept_nbytes == before.unused_nbytes == 0

    remove(store, b"base")
    after = store.catalog.store_sizes(freeable_nbytes=0)
    assert after.kept_nbytes == stored_nbytes(store, base)  # others are coded against it
    assert after.unused_nbytes >= stored_nbytes(store, apart)
    assert after.added_nbytes >= stored_nbytes(store, whole, half)
    total = after.added_nbytes + after.kept_nbytes + after.unused_nbytes + after.index_nbytes
    assert total == after.stored_nbytes == before.stored_nbytes


def test_a_blob_counts_for_the_next_file_once_the_first_is_gone(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    *_, whole, _ = made[1]
    first, second = sorted(store.catalog.users_of_blob(whole))
    assert store.catalog.added_nbytes([first, second])[first] >= stored_nbytes(store, whole)
    assert store.catalog.heirs(first) == [second]
    assert store.catalog.heirs(second) == []
    with store.transaction() as txn:
        txn.put_extents(first, [])
        txn.attribute([first, second])
    assert store.catalog.inode(first).stored_nbytes == 0
    assert store.catalog.inode(second).stored_nbytes >= stored_nbytes(store, whole)


def test_all_files_say_what_they_added(store: Store) -> None:
    stored = [one for one in map(store.catalog.inode, store.catalog.inode_ids()) if one.state is State.STORED]
    added = store.catalog.added_nbytes([one.id for one in stored])
    with store.transaction() as txn:
        for one in stored:
            txn.set_stored_nbytes(one.id, 123)
    with store.transaction() as txn:
        txn.attribute_all()
    assert {one.id: store.catalog.inode(one.id).stored_nbytes for one in stored} == {
        one.id: added.get(one.id, 0) for one in stored
    }


def test_sums_below_a_directory_go_by_where_the_content_is(store: Store) -> None:
    total = store.catalog.sizes_below(ROOT)
    assert {*total} == {State.STORED}
    assert total[State.STORED].nbytes == store.catalog.content_sizes().raw_nbytes
    directory = served_inode(store, b"base")
    assert 0 < store.catalog.sizes_below(directory.id)[State.STORED].nbytes < total[State.STORED].nbytes
    copy_in(store, b"new", noise(5000))
    assert {*store.catalog.sizes_below(INGEST_ROOT)} == {State.OPEN}
