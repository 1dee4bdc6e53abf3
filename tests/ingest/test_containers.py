"""A tensor is a tensor wherever it lies: those of any container share their blobs with the same ones as safetensors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.contracts.test_container_parser import FILES
from tests.formats.contract import reader
from tests.formats.hostile import BITS_OF_DTYPE
from tests.support.stores import contents, problems, put_file, served_inode, tensor_file
from zipfs.formats import PARSERS, Span, lay_out
from zipfs.inspect.file_report import report_file
from zipfs.inspect.tensor_names import TensorNames
from zipfs.store.store import Store, open_store


@cache
def richest_files() -> dict[str, tuple[bytes, list[Span]]]:
    """For each format the file with most tensors of types that safetensors has, and these."""
    best: dict[str, tuple[bytes, list[Span]]] = {}
    for content in FILES.values():
        layout = lay_out(b"", reader(content), len(content))
        tensors = [span for span in layout.spans if span.dtype in BITS_OF_DTYPE]
        if len(tensors) > len(best.get(layout.format, (b"", []))[1]):
            best[layout.format] = content, tensors
    return best


def tensor_blobs(store: Store, path: bytes) -> set[int]:
    blobs = store.catalog.blobs_of(served_inode(store, path))
    return {blob.id for blob in blobs.values() if blob.dtype}


@pytest.mark.parametrize("form", [parser.format for parser in PARSERS])
def test_the_same_tensors_are_stored_once(tmp_path: Path, form: str) -> None:
    content, tensors = richest_files()[form]
    plain = tensor_file(
        {
            str(number): (
                span.dtype,
                [span.nbytes * 8 // BITS_OF_DTYPE[span.dtype]],
                content[span.offset :][: span.nbytes],
            )
            for number, span in enumerate(tensors)
        }
    )
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"plain.safetensors", plain)
        assert put_file(store, tmp_path, b"file", content).failures == []
        assert tensor_blobs(store, b"plain.safetensors")
        assert tensor_blobs(store, b"plain.safetensors") <= tensor_blobs(store, b"file")
        report = report_file(store, TensorNames(store), b"file", served_inode(store, b"file"))
        assert report.format == form
        assert {span.name for span in tensors} <= {one.name for one in report.tensors}
        assert problems(store) == []
    assert contents(tmp_path / "store") == {b"file": content, b"plain.safetensors": plain}
