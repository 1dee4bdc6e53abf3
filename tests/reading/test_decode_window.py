"""What is decoded for a window: each frame once, however many parts of it the window holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import chunks
from tests.support.stores import noise, put_file, served_inode
from zipfs.metrics.counters import Counters
from zipfs.reading import Reader, open_content
from zipfs.store.store import open_store

TENSORS = {f"w{n}": ("U8", [5000], noise(5000, n)) for n in range(40)}
CONTENT = chunks.chunks(TENSORS, header=noise(300))


def test_a_frame_that_is_needed_in_parts_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks.use(monkeypatch)
    counters = Counters()
    with open_store(tmp_path / "store", create=True) as store, Reader(store.frames, counters) as reader:
        put_file(store, tmp_path, b"file", CONTENT)
        file = open_content(store, reader, served_inode(store, b"file"))
        assert file.read(0, len(CONTENT)) == CONTENT
        assert counters.decode.read().nbytes == len(CONTENT)
        file.close()


def test_a_frame_of_plain_bytes_that_is_needed_in_part_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other windows need other parts of it."""
    chunks.use(monkeypatch)
    with open_store(tmp_path / "store", create=True) as store, Reader(store.frames) as reader:
        put_file(store, tmp_path, b"file", CONTENT)
        inode = served_inode(store, b"file")
        first, tensor, *_ = store.catalog.extents(inode)
        file = open_content(store, reader, inode)
        assert file.read(0, 5000) == CONTENT[:5000]
        kept = store.frames.cached(first.blob_id, 0)
        assert kept is not None
        assert kept[: first.nbytes] == CONTENT[: first.nbytes]
        assert store.frames.cached(tensor.blob_id, 0) is None
        file.close()
