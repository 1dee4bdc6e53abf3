"""Small plain pieces of a file are stored in one blob, and served as the bytes that they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import chunks
from tests.support.chunks import chunks as chunks_file
from tests.support.stores import (
    Listener,
    Tensor,
    blob_ids,
    collect_garbage,
    compress,
    contents,
    import_path,
    model,
    noise,
    open_again,
    problems,
    put_file,
    served_inode,
    weights,
    write_over,
    write_tree,
)
from zipfs.formats import Span
from zipfs.ingest import gather
from zipfs.ingest.dry_run import DryRun
from zipfs.ingest.holes import Piece
from zipfs.ingest.import_tree import find
from zipfs.ingest.source import Gathered, Source, SourceError
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.objects.values import BlobId, Extent
from zipfs.store.store import Store, open_store

TENSORS = 5


@pytest.fixture(autouse=True)
def takes_chunks_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks.use(monkeypatch)


def tensors(seed: int = 0, items: int = 3000) -> dict[str, Tensor]:
    return {f"w{n}": ("BF16", [items], weights(items, 10 * seed + n)) for n in range(TENSORS)}


def blobs_of(store: Store, path: bytes) -> set[int]:
    return set(blob_ids(store, path))


def test_small_pieces_are_one_blob(tmp_path: Path) -> None:
    content = chunks_file(tensors(), header=noise(20))
    with open_store(tmp_path / "store", create=True) as store:
        assert put_file(store, tmp_path, b"file", content).failures == []
        inode = served_inode(store, b"file")
        extents = store.catalog.extents(inode)
        assert inode.sha256 == hashlib.sha256(content).digest()
        assert len(extents) == 2 * TENSORS + 1
        assert len({extent.blob_id for extent in extents}) == TENSORS + 1
        plain = [extent for extent in extents if not store.catalog.blob(extent.blob_id).dtype]
        assert [extent.blob_offset for extent in plain] == [0, *(24 + 20 * n for n in range(TENSORS))]
        assert problems(store) == []
    rebuild(tmp_path / "store")
    assert contents(tmp_path / "store") == {b"file": content}


def test_equal_small_pieces_are_shared_by_files(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"one", chunks_file(tensors(1)))
        put_file(store, tmp_path, b"two", chunks_file(tensors(2)))
        assert len(blobs_of(store, b"one") & blobs_of(store, b"two")) == 1


def test_one_small_piece_stays_a_blob_of_its_own(tmp_path: Path) -> None:
    """So the header of a safetensors file is what it was."""
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", model(weights(3000)))
        first, _ = store.catalog.extents(served_inode(store, b"file"))
        assert (first.blob_offset, first.nbytes) == (0, store.catalog.blob(first.blob_id).nbytes)


def test_many_small_pieces_are_several_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_BLOB_NBYTES", 40)
    content = chunks_file(tensors(), header=noise(20))
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", content)
        found = [store.catalog.blob(BlobId(blob_id)) for blob_id in sorted(blobs_of(store, b"file"))]
        sizes = [blob.nbytes for blob in found if not blob.dtype]
        assert sizes == [44, 40, len(content) - 84 - sum(len(raw) for _, _, raw in tensors().values())]
        assert problems(store) == []
    assert contents(tmp_path / "store") == {b"file": content}


def test_pieces_that_change_while_they_are_stored_fail_their_own_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob of small pieces shows it first: what is read back of it is compared with the file."""
    changing = chunks_file(tensors(1), header=noise(20))
    root = write_tree(tmp_path / "tree", {b"a": changing, b"b": chunks_file(tensors(2))})
    original = Gathered.read
    reads = 0

    def read(self: Gathered, offset: int, nbytes: int) -> bytes:
        nonlocal reads
        reads += self.name == b"a"
        if reads == 2:  # it was encoded from what the first one gave, and is to be compared
            (root / "a").write_bytes(changing[:4] + noise(20, 2) + changing[24:])
        return original(self, offset, nbytes)

    monkeypatch.setattr(Gathered, "read", read)
    with open_store(tmp_path / "store", create=True) as store:
        listener = import_path(store, root, b"in")
        (message,) = listener.failures
        assert "changed while it was read" in message
        assert len(listener.files) == 1
        assert problems(store) == []
    assert contents(tmp_path / "store") == {b"in/b": chunks_file(tensors(2))}


def test_a_file_that_is_removed_while_its_pieces_are_stored_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Gathered, offset: int, nbytes: int) -> bytes:
        raise SourceError(self.shown, "is gone")

    monkeypatch.setattr(Gathered, "read", read)
    with open_store(tmp_path / "store", create=True) as store:
        (message,) = put_file(store, tmp_path, b"file", chunks_file(tensors())).failures
        assert message.endswith("is gone")
        assert store.catalog.blob_table().ids.size == 0
        assert problems(store) == []


def test_a_dry_run_plans_them_as_one(tmp_path: Path) -> None:
    content = chunks_file(tensors(), header=noise(20))
    root = write_tree(tmp_path / "tree", {b"a": content, b"b": content})
    with open_store(tmp_path / "store", create=True) as store:
        run = DryRun(store, Listener())
        first, second = run.plan(find(store, root, b"in").sources)
        run.close()
        assert [len(planned.plan.steps) for planned in (first, second)] == [TENSORS + 1, TENSORS + 1]
        assert sum(step.span.nbytes for step in first.plan.steps) == len(content)
        assert first.plan.predicted_nbytes > 0
        assert second.plan.predicted_nbytes == 0


def test_a_file_that_is_changed_in_place_is_gathered_anew(tmp_path: Path) -> None:
    content = chunks_file(tensors(), header=noise(20))
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"file", content)
        before = blobs_of(store, b"file")
        inode = open_again(store, served_inode(store, b"file"), under_ingest=False, emptied=False)
        write_over(store, inode, 4, noise(20, 2))
        compress(store)
        assert len(blobs_of(store, b"file") - before) == 1
        collect_garbage(store)
        assert problems(store) == []
    assert contents(tmp_path / "store") == {b"file": content[:4] + noise(20, 2) + content[24:]}


PLAIN = Span(0, 10, "", (), None)
SMALL = Piece(PLAIN)
OTHERS = {
    "a tensor": Piece(Span(0, 10, "BF16", (5,), "w")),
    "a hole": Piece(PLAIN, is_hole=True),
    "unchanged": Piece(PLAIN, shown=Extent(0, 10, BlobId(1), 0)),
    "large": Piece(Span(0, gather.SMALL_NBYTES, "", (), None)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_only_small_plain_pieces_that_are_read_are_gathered(other: Piece) -> None:
    assert [one.is_gathered for one in gather.mark([SMALL, other, SMALL])] == [True, False, True]
    assert gather.mark([SMALL, other]) == (SMALL, other)


@given(
    lengths=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=20),
    offset=st.integers(0, 100),
    nbytes=st.integers(0, 100),
)
def test_any_range_of_joined_spans_is_read(lengths: list[tuple[int, int]], offset: int, nbytes: int) -> None:
    spans, joined, at = [], b"", 0
    content = noise(sum(map(sum, lengths)))
    for skipped, length in lengths:
        spans.append(Span(at + skipped, length, "", (), None))
        joined += content[at + skipped :][:length]
        at += skipped + length
    gathered = Gathered(InMemory(content), spans)
    assert gathered.nbytes == len(joined)
    assert gathered.read(offset, nbytes) == joined[offset : offset + nbytes]


class InMemory(Source):
    def __init__(self, content: bytes) -> None:
        super().__init__(Path(), "content", b"", len(content), lambda txn, stored: None)
        self._content = content

    def read(self, offset: int, nbytes: int) -> bytes:
        return self._content[offset : offset + nbytes]
