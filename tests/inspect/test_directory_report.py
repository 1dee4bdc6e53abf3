"""Files of a directory, summed up from an inventory, as reports on each of them say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import chunks
from tests.support.stores import put_file, weights
from zipfs.inspect.directory_report import FileSummary, summarize_directory
from zipfs.inspect.file_report import report_file
from zipfs.inspect.inventory import take_inventory
from zipfs.inspect.storage_method import Share, StorageMethod
from zipfs.inspect.tensor_names import TensorNames
from zipfs.library import Library
from zipfs.store.disk.progress import report_nothing
from zipfs.store.store import Store


def summaries(store: Store, directory: bytes) -> dict[bytes, FileSummary]:
    found = summarize_directory(take_inventory(store, report_nothing), directory)
    assert [one.path for one in found] == sorted(one.path for one in found)
    return {one.path: one for one in found}


def test_only_what_lies_in_the_directory_is_summed_up(filled: Store) -> None:
    names = {b"tuned/model.safetensors", b"tuned/extra.safetensors", b"tuned/README.md", b"tuned/late.bin"}
    assert set(summaries(filled, b"tuned")) == names
    assert set(summaries(filled, b"")) == names | {b"base/model.safetensors", b"tuned2/README.md"}
    assert summaries(filled, b"missing") == {}


def test_what_a_file_rests_on(filled: Store) -> None:
    found = summaries(filled, b"")
    assert found[b"base/model.safetensors"].rests_on == ()
    ((on, nbytes),) = found[b"tuned/model.safetensors"].rests_on
    assert on == b"base/model.safetensors"
    assert nbytes > 40_000  # the header is the same, too
    assert found[b"tuned/extra.safetensors"].rests_on == ((b"base/model.safetensors", 40_000),)
    assert found[b"tuned/README.md"].rests_on == ()


def test_bits_of_a_weight_are_of_tensors_alone(filled: Store) -> None:
    found = summaries(filled, b"")
    assert found[b"tuned/README.md"].bits_per_weight is None
    own = found[b"tuned/extra.safetensors"]
    added = own.shares[StorageMethod.STANDALONE].stored_nbytes
    assert own.shares[StorageMethod.SHARED] == Share(40_000, 0)
    assert own.bits_per_weight == pytest.approx(8 * added / 21_000)


def test_what_is_not_compressed_counts_as_it_is(filled: Store) -> None:
    late = summaries(filled, b"tuned")[b"tuned/late.bin"]
    assert (late.in_spool, late.shares) == (True, {StorageMethod.SPOOL: Share(7, 7)})


def test_a_report_on_each_file_says_the_same(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks.use(monkeypatch)
    for name in (b"gathered", b"again"):
        content = chunks.chunks({f"w{n}": ("BF16", [2000], weights(2000, n)) for n in range(3)})
        put_file(filled, tmp_path / "x", name, content)
    with Library(filled.path) as library:
        names = TensorNames(library.store)
        for path, summary in summaries(filled, b"").items():
            report = report_file(library.store, names, path, library.node(path).inode)
            assert report.shares() == summary.shares, path
            assert report.bits_per_weight == pytest.approx(summary.bits_per_weight), path
