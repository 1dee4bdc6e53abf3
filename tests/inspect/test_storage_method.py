"""Storage methods, one blob at a time and by the table, and their sums."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zipfs.inspect.inventory import take_inventory
from zipfs.inspect.storage_method import (
    Share,
    StorageMethod,
    method_of_blob,
    methods_of_blobs,
    total,
    total_by_method,
)
from zipfs.store.disk.progress import report_nothing
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store


def test_a_blob_and_the_table_tell_the_same(filled: Store) -> None:
    table = take_inventory(filled, report_nothing).blobs
    for blob_id, method in zip(table.ids.tolist(), methods_of_blobs(table).tolist(), strict=True):
        blob = filled.catalog.blob(BlobId(blob_id))
        base = None if blob.base is None else (filled.catalog.blob(blob.base.blob_id), blob.base.view)
        assert method_of_blob(blob, base) == method


def test_documents_keep_the_names_that_they_had_first() -> None:
    names = {method.name: method.json_name for method in StorageMethod}
    assert names == {
        "SHARED": "shared", "WHOLE_BASE": "delta", "BASE_RANGE": "range", "CAST_BASE": "cast",
        "STANDALONE": "alone", "BYTES": "bytes", "SPOOL": "spool",
    }  # fmt: skip
    assert len({method.label for method in StorageMethod}) == len(StorageMethod)


SHARES = st.dictionaries(
    st.sampled_from(StorageMethod), st.builds(Share, st.integers(0, 1 << 50), st.integers(0, 1 << 50))
)


@given(files=st.lists(SHARES))
def test_sums_by_method_sum_up_to_all(files: list[dict[StorageMethod, Share]]) -> None:
    by_method = total_by_method(files)
    assert list(by_method) == sorted({method for shares in files for method in shares})
    sums = [total(shares) for shares in files]
    assert total(by_method) == Share(sum(one.nbytes for one in sums), sum(one.stored_nbytes for one in sums))
