"""Names of tensors are read from the headers of their files, each header once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import chunks
from tests.support.stores import model, put_file, served_inode, tuned, weights
from zipfs.formats import Layout, lay_out
from zipfs.inspect.tensor_names import TensorNames
from zipfs.store.store import Store


def test_a_place_is_named(filled: Store) -> None:
    names = TensorNames(filled)
    inode = served_inode(filled, b"tuned/extra.safetensors")
    header, same, own = filled.catalog.extents(inode)
    path = b"tuned/extra.safetensors"
    assert [names.at(inode.id, one.offset) for one in (header, same, own)] == [
        (path, None),
        (path, "same"),
        (path, "own"),
    ]
    readme = served_inode(filled, b"tuned/README.md")
    assert names.at(readme.id, 0) == (b"tuned/README.md", None)


def test_files_of_one_header_are_taken_apart_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = weights(20_000)
    for name, content in ((b"a", model(base)), (b"b", model(tuned(base))), (b"c", model(base, "other"))):
        put_file(store, tmp_path / "x", name + b".safetensors", content)
    read: list[bytes] = []

    def counted(path: bytes, read_range: Callable[[int, int], bytes], nbytes: int) -> Layout:
        read.append(path)
        return lay_out(path, read_range, nbytes)

    monkeypatch.setattr("zipfs.inspect.tensor_names.lay_out", counted)
    names = TensorNames(store)
    layouts = {
        name: names.layout(served_inode(store, name + b".safetensors"), name + b".safetensors")
        for name in (b"a", b"b", b"c", b"a")
    }
    assert read == [b"a.safetensors", b"c.safetensors"]
    assert layouts[b"a"] is layouts[b"b"]


def test_an_empty_file_has_no_layout(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"empty.safetensors", b"")
    assert TensorNames(store).layout(served_inode(store, b"empty.safetensors"), b"empty.safetensors") is None


def test_files_that_differ_in_any_plain_bytes_have_layouts_of_their_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory may stand at the end of a file, behind a header that many begin with."""
    chunks.use(monkeypatch)
    raw = weights(3000)
    put_file(store, tmp_path / "x", b"a", chunks.chunks({"one": ("BF16", [3000], raw)}, header=bytes(70_000)))
    put_file(store, tmp_path / "x", b"b", chunks.chunks({"two": ("BF16", [3000], raw)}, header=bytes(70_000)))
    first, second = served_inode(store, b"a"), served_inode(store, b"b")
    assert store.catalog.extents(first)[0].blob_id == store.catalog.extents(second)[0].blob_id
    names = TensorNames(store)
    assert names.at(first.id, 70_004) == (b"a", "one")
    assert names.at(second.id, 70_004) == (b"b", "two")
