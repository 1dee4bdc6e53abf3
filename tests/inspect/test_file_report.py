"""One file, tensor by tensor: by name, with what each is stored against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.hostile import container
from tests.support import chunks
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
        (b"m.onnx_data", noise(70_000), "it begins like no format that is taken apart"),
        (b"m.safetensors", container('{"a":{"dtype":"F1"}}'), "no safetensors file: unknown dtype F1"),
        (b"m.pt", container("{}" + " " * 70_000), "as safetensors it holds no tensors"),
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


CHUNKS = chunks.chunks({f"w{n}": ("BF16", [2000], weights(2000, n)) for n in range(3)}, header=noise(20))


def test_small_ranges_of_plain_bytes_are_told_of_as_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks.use(monkeypatch)
    put_file(store, tmp_path / "x", b"m.chunks", CHUNKS)
    plain, *tensors = reported(store, b"m.chunks").tensors
    assert [one.name for one in tensors] == ["w0", "w1", "w2"]
    assert (plain.ranges, plain.nbytes) == (4, len(CHUNKS) - 3 * 4000)
    assert {stored.method for stored in plain.extents} == {StorageMethod.BYTES}
    assert plain.added_nbytes == plain.extents[0].blob.stored_nbytes
    put_file(store, tmp_path / "x", b"n.chunks", CHUNKS)
    same = reported(store, b"n.chunks").tensors[0]
    assert (same.ranges, same.added_nbytes) == (4, 0)
    assert {stored.method for stored in same.extents} == {StorageMethod.SHARED}


def test_a_file_that_came_in_before_its_format_was_taken_apart_is_said_to_be_such(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(store, tmp_path / "x", b"m.chunks", CHUNKS)
    chunks.use(monkeypatch)
    report = reported(store, b"m.chunks")
    assert report.kept_as_bytes.startswith("not stored by its tensors: it came in before files of this kind (chunks)")
    assert [(one.name, one.nbytes) for one in report.tensors] == [(None, len(CHUNKS))]
    put_file(store, tmp_path / "x", b"m.chunks", CHUNKS)
    assert reported(store, b"m.chunks").kept_as_bytes == ""
    assert len(reported(store, b"m.chunks").tensors) == 4


def test_runs_of_floats_in_plain_bytes_are_told_of_by_themselves(store: Store, tmp_path: Path) -> None:
    raw = weights(200_000)
    put_file(store, tmp_path / "x", b"dump.bin", b"text " * 30_000 + raw)
    report = reported(store, b"dump.bin")
    assert report.kept_as_bytes == ""
    assert [one.dtype for one in report.tensors] == ["", "BF16"]
    assert sum(one.nbytes for one in report.tensors) == 150_000 + len(raw)
    assert report.bits_per_weight is not None
