"""Holes of sparse files are neither read nor coded, and are served as the zeros that they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mounts import sha256
from tests.support.stores import (
    collect_garbage,
    compress,
    contents,
    copy_in,
    import_path,
    noise,
    problems,
    served_inode,
    tensor_file,
)
from zipfs.formats import Span
from zipfs.ingest import holes
from zipfs.ingest.source import Source
from zipfs.reading import Reader, open_content
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.store import Store, open_store

MIB = 1 << 20
PIECES = {0: noise(3 * MIB, 1), 200 * MIB + 17: noise(5000, 2), 300 * MIB - 9: noise(9, 3)}
"""What a sparse file of 300 MiB holds besides its holes."""


def sparse_file(path: Path, nbytes: int, pieces: dict[int, bytes]) -> Path:
    with open(path, "wb") as file:
        for at, content in pieces.items():
            file.seek(at)
            file.write(content)
        file.truncate(nbytes)
    return path


def count_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes were read from sources since."""
    total = 0
    original = Source.read

    def read(self: Source, offset: int, nbytes: int) -> bytes:
        nonlocal total
        data = original(self, offset, nbytes)
        total += len(data)
        return data

    monkeypatch.setattr(Source, "read", read)
    return lambda: total


def read_range(store: Store, path: bytes, offset: int, nbytes: int) -> bytes:
    with Reader(store.frames) as reader:
        opened = open_content(store, reader, served_inode(store, path))
        try:
            return bytes(opened.read(offset, nbytes))
        finally:
            opened.close()


def digest_of(store: Store, path: bytes, nbytes: int) -> str:
    hashed = hashlib.sha256()
    with Reader(store.frames) as reader:
        opened = open_content(store, reader, served_inode(store, path))
        for at in range(0, nbytes, MIB):
            hashed.update(opened.read(at, min(MIB, nbytes - at)))
        opened.close()
    return hashed.hexdigest()


@pytest.mark.slow
def test_a_sparse_file_is_served_byte_for_byte_and_its_holes_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sparse_file(tmp_path / "sparse", 300 * MIB, PIECES)
    expected = sha256(source)
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        read = count_read(monkeypatch)
        import_path(store, source, b"sparse")
        assert read() < 40 * MIB
        inode = served_inode(store, b"sparse")
        assert inode.sha256 is not None
        assert inode.sha256.hex() == expected
        assert inode.stored_nbytes < 4 * MIB
        assert digest_of(store, b"sparse", 300 * MIB) == expected
        for at, content in PIECES.items():
            assert read_range(store, b"sparse", at, len(content)) == content
        collect_garbage(store)
        assert problems(store) == []
    rebuild(path)
    with open_store(path) as store:
        assert digest_of(store, b"sparse", 300 * MIB) == expected
        assert problems(store) == []


def test_files_with_holes_share_one_blob_of_zeros(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        for number in range(3):
            source = sparse_file(tmp_path / "s", (20 + number) * MIB, {15 * MIB: bytes([number + 1])})
            import_path(store, source, f"s{number}".encode())
        blobs = [
            {extent.blob_id for extent in store.catalog.extents(served_inode(store, name))}
            for name in (b"s0", b"s1", b"s2")
        ]
        assert len(blobs[0] & blobs[1] & blobs[2]) == 1
        assert problems(store) == []


@pytest.mark.slow
def test_a_huge_hole_takes_no_time_and_has_no_sum(tmp_path: Path) -> None:
    nbytes = 3 << 40
    source = sparse_file(tmp_path / "huge", nbytes, {nbytes - 3: b"end"})
    with open_store(tmp_path / "store", create=True) as store:
        import_path(store, source, b"huge")
        inode = served_inode(store, b"huge")
        assert inode.nbytes == nbytes
        assert inode.sha256 is None
        assert read_range(store, b"huge", nbytes - 5, 5) == b"\0\0end"
        assert read_range(store, b"huge", nbytes // 2, 4096) == bytes(4096)
        assert len(store.catalog.extents(inode)) < 1 << 16
        assert problems(store) == []


def test_a_hole_in_the_spool_is_skipped_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        inode = copy_in(store, b"a", b"begin")
        os.truncate(store.spool_path(inode), 1 << 30)
        read = count_read(monkeypatch)
        assert compress(store).failures == []
        assert read() < 40 * MIB
        assert read_range(store, b"a", 0, 10) == b"begin\0\0\0\0\0"
        assert problems(store) == []


def test_a_model_with_a_hole_stays_a_model(tmp_path: Path) -> None:
    """Its tensors keep their type and shape, whatever they are filled with."""
    items = 8 * MIB
    content = tensor_file({"zero": ("U8", [items], bytes(items)), "w": ("U8", [4], b"abcd")})
    head = len(content) - items - 4
    source = sparse_file(tmp_path / "m", len(content), {0: content[:head], len(content) - 4: b"abcd"})
    assert source.read_bytes() == content
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        import_path(store, source, b"m")
        extents = store.catalog.extents(served_inode(store, b"m"))
        assert [store.catalog.blob(extent.blob_id).dtype for extent in extents] == ["", "U8", "U8"]
    assert contents(path) == {b"m": content}


def test_what_a_file_system_does_not_tell_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sparse_file(tmp_path / "s", 20 * MIB, {10 * MIB: b"middle"})

    def unknown(fd: int, at: int, what: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", unknown)
    with open(source, "rb") as file:
        assert list(holes.find_holes(file.fileno(), 20 * MIB)) == []


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["", "F32"])), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 60)), max_size=6),
)
def test_pieces_tile_what_they_are_cut_from(lengths: list[tuple[int, str]], gaps: list[tuple[int, int]]) -> None:
    """And no byte outside of a hole is taken for one."""
    spans, at = [], 0
    for nbytes, dtype in lengths:
        spans.append(Span(at, nbytes * MIB, dtype, (nbytes,) if dtype else (), None))
        at += nbytes * MIB
    found, start = [], 0
    for gap, nbytes in gaps:
        start += gap * MIB
        if start + nbytes * MIB <= at:
            found.append((start, nbytes * MIB))
        start += nbytes * MIB
    pieces = list(holes.cut(spans, found))
    end = 0
    for piece in pieces:
        assert piece.span.offset == end
        assert piece.span.nbytes > 0
        end += piece.span.nbytes
        if piece.is_hole:
            assert any(a <= piece.span.offset and piece.span.offset + piece.span.nbytes <= a + n for a, n in found)
    assert end == at
    assert [piece.span for piece in pieces if piece.span.dtype] == [span for span in spans if span.dtype]
