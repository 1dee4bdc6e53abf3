"""One file, tensor by tensor: by name, with what each is stored against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import model, noise, put_file, served_inode, weights
from zipfs.inspect.file_report import FileReport, base_items, report_file
from zipfs.inspect.storage_method import StorageMethod
from zipfs.inspect.tensor_names import TensorNames
from zipfs.store.store import Store


def reported(store: Store, path: bytes) -> FileReport:
    return report_file(store, TensorNames(store), path, served_inode(store, path))


def test_tensors_have_their_names_and_types(filled: Store) -> None:
    header, same, own = reported(filled, b"tuned/extra.safetensors").tensors
    assert (header.name, header.dtype, header.bits_per_weight) == (None, "", None)
    assert (same.name, same.dtype, same.shape, same.weights) == ("same", "BF16", (20_000,), 20_000)
    assert (own.name, own.dtype, own.nbytes, own.weights) == ("own", "F32", 4000, 1000)
    assert [one.extents[0].method for one in (header, same, own)] == [
        StorageMethod.BYTES,
        StorageMethod.SHARED,
        StorageMethod.STANDALONE,
    ]


def test_every_place_that_is_referred_to_is_named(filled: Store) -> None:
    report = reported(filled, b"tuned/extra.safetensors")
    (place,) = [stored.shared_with for one in report.tensors for stored in one.extents if stored.shared_with]
    assert (report.places[place].path, report.places[place].tensor) == (b"base/model.safetensors", "w")
    tuned = reported(filled, b"tuned/model.safetensors")
    (base,) = [stored.base for one in tuned.tensors for stored in one.extents if stored.base]
    assert base.place is not None
    assert tuned.places[base.place].path == b"base/model.safetensors"
    assert base_items(base) is None  # all of it


def test_a_file_in_the_spool_has_no_tensors(filled: Store) -> None:
    report = reported(filled, b"tuned/late.bin")
    assert (report.tensors, report.bits_per_weight, report.kept_as_bytes) == ((), None, "")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (b"m.gguf", noise(70_000), "only safetensors is taken apart, not .gguf"),
        (b"m.safetensors", noise(70_000), "its header is not that of a safetensors file"),
        (b"notes.txt", noise(70_000), ""),
        (b"good.safetensors", model(weights(2000)), ""),
        (b"good-by-another-name.gguf", model(weights(40_000)), ""),
    ],
)
def test_why_a_file_was_kept_as_bytes(name: bytes, content: bytes, reason: str, store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", name, content)
    found = reported(store, name).kept_as_bytes
    assert reason in found
    assert bool(found) == bool(reason)
