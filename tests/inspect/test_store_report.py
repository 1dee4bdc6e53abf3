"""A report on a store is of one moment, whatever others do to the store meanwhile."""

from __future__ import annotations

from pathlib import Path

from tests.support.stores import model, put_file, remove, tuned, weights
from zipfs.inspect.store_report import StoreReport, report_store
from zipfs.store.disk.progress import report_nothing
from zipfs.store.store import open_store

BASE = weights(20_000)


def assert_sums_agree(report: StoreReport) -> None:
    files, sizes = report.inventory.files, report.sizes
    assert sum(file.nbytes for file in files) == sizes.raw_nbytes
    assert int(report.inventory.extents.added_nbytes.sum()) == sizes.added_nbytes
    assert sum(share.stored_nbytes for share in report.inventory.shares().values()) == sizes.added_nbytes
    assert report.families.stored_nbytes == sizes.added_nbytes + sizes.kept_nbytes + sizes.unused_nbytes


def test_what_changes_meanwhile_is_in_none_of_its_sums(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as writer:
        put_file(writer, tmp_path / "x", b"base/m", model(BASE))
        put_file(writer, tmp_path / "x", b"tuned/m", model(tuned(BASE)))
        with open_store(tmp_path / "store", read_only=True) as store:
            before = report_store(store, report_nothing)
            assert_sums_agree(before)
            changed: list[str] = []

            def change(what: str, done: int, total: int) -> None:
                if not changed:
                    changed.append(what)
                    remove(writer, b"base")
                    put_file(writer, tmp_path / "x", b"late/m", model(weights(30_000, 5)))

            meanwhile = report_store(store, change)
            assert changed
            assert_sums_agree(meanwhile)
            assert (meanwhile.families, meanwhile.sizes) == (before.families, before.sizes)
            after = report_store(store, report_nothing)
            assert_sums_agree(after)
            assert [file.path for file in after.inventory.files] == [b"late/m", b"tuned/m"]
            assert after.sizes.kept_nbytes > 0
