"""Stores that tests of reports look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import copy_in, model, put_file, tensor_file, tuned, weights
from zipfs.ingest.queue import seal_everything
from zipfs.store.store import Store, open_store

BASE = weights(20_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A base, a fine-tune, a file of a shared and an own tensor, plain files, and one that is not compressed."""
    put_file(store, tmp_path / "x", b"base/model.safetensors", model(BASE))
    put_file(store, tmp_path / "x", b"tuned/model.safetensors", model(tuned(BASE)))
    both = tensor_file({"same": ("BF16", [20_000], BASE), "own": ("F32", [1000], weights(2000, 7))})
    put_file(store, tmp_path / "x", b"tuned/extra.safetensors", both)
    put_file(store, tmp_path / "x", b"tuned/README.md", b"hello")
    put_file(store, tmp_path / "x", b"tuned2/README.md", b"world")
    copy_in(store, b"tuned/late.bin", b"content")
    seal_everything(store)
    return store
