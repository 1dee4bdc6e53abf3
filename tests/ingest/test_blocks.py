"""Files with tensors of block types: they come back whatever is done to the store, and are divided between blocks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import chunks
from tests.support.blocks import blocks, tuned_blocks, weights_of
from tests.support.chunks import chunks as chunks_file
from tests.support.stores import (
    Tensor,
    collect_garbage,
    contents,
    noise,
    optimize_all,
    problems,
    put_file,
    remove,
    served_inode,
)
from zipfs.bases.similarity.alignment import PartialMatch
from zipfs.codec import frame_nbytes
from zipfs.dtypes import BLOCK_DTYPES
from zipfs.formats import Span
from zipfs.ingest.split_tensor import parts_of, parts_of_repetition
from zipfs.inspect.file_report import report_file
from zipfs.inspect.tensor_names import TensorNames
from zipfs.reading import Reader, open_content
from zipfs.store.maintenance.check import check
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.objects.values import Blob
from zipfs.store.store import Store, open_store

STEP = frame_nbytes("Q8_0")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _container() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        chunks.use(patch)
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store


def tensor(dtype: str, raw: bytes) -> Tensor:
    return dtype, [weights_of(dtype, len(raw))], raw


def file_of(dtype: str, raw: bytes) -> bytes:
    return chunks_file({"w": tensor(dtype, raw)})


def blobs_of(store: Store, name: bytes, dtype: str) -> list[Blob]:
    """The blobs of a block type in a file, in its order."""
    inode = served_inode(store, name)
    blobs = store.catalog.blobs_of(inode)
    of_file = [blobs[extent.blob_id] for extent in store.catalog.extents(inode)]
    return [blob for blob in of_file if blob.dtype == dtype]


LENGTHS = (
    1,
    33,
    34,
    STEP - 34,
    STEP - 1,
    STEP,
    STEP + 1,
    STEP + 34,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    3 * STEP + 7,
)


def test_tensors_of_every_length_come_back_by_any_range(store: Store, tmp_path: Path) -> None:
    tensors = {f"t{nbytes}": tensor("Q8_0", blocks("Q8_0", nbytes, nbytes)) for nbytes in LENGTHS}
    raw = chunks_file(tensors)
    put_file(store, tmp_path, b"all", raw)
    found = {blob.nbytes: blob for blob in blobs_of(store, b"all", "Q8_0")}
    assert sorted(found) == sorted(LENGTHS)
    assert all(blob.frame_nbytes(0) == min(nbytes, STEP) for nbytes, blob in found.items())
    assert contents(store.path) == {b"all": raw}
    assert problems(store) == []
    chance = random.Random(5)
    starts = [*range(0, len(raw), 700_001), *(chance.randrange(len(raw)) for _ in range(60))]
    with Reader(store.frames) as reader:
        content = open_content(store, reader, served_inode(store, b"all"))
        for at in starts:
            nbytes = chance.choice((1, 100, 4096, 131_072, 1 << 20, 5 << 20))
            assert bytes(content.read(at, nbytes)) == raw[at : at + nbytes]
            assert bytes(content.submit(at, 5000).result()) == raw[at : at + 5000]
        content.close()


@pytest.mark.parametrize("dtype", sorted(BLOCK_DTYPES))
def test_every_type_is_coded_against_a_base_and_survives_upkeep(dtype: str, tmp_path: Path) -> None:
    base = blocks(dtype, frame_nbytes(dtype) + 50_000, 3)
    files = {b"a": file_of(dtype, base), b"b": file_of(dtype, tuned_blocks(base)), b"c": file_of(dtype, base[:7000])}
    with open_store(tmp_path / "store", create=True) as store:
        for name, content in files.items():
            put_file(store, tmp_path, name, content)
        (member,) = blobs_of(store, b"b", dtype)
        assert member.base is not None
        assert member.stored_nbytes < len(base) // 4
        put_file(store, tmp_path, b"gone", file_of(dtype, blocks(dtype, 90_000, 9)))
        remove(store, b"gone")
        collect_garbage(store)
        assert problems(store) == []
    assert contents(store.path) == files
    for path in store.path.glob("catalog.db*"):
        path.unlink()
    assert rebuild(store.path).lost == []
    assert contents(store.path) == files
    with open_store(store.path) as again:
        assert list(check(again, read_data=True)) == []


def test_blobs_are_rebased(store: Store, tmp_path: Path) -> None:
    """The first is far from the others, which are near to each other."""
    outlier = blocks("Q4_K", 400_000, 1)
    centre = tuned_blocks(outlier, 2, 0.4)
    files = {b"0": file_of("Q4_K", outlier)}
    files |= {b"%d" % n: file_of("Q4_K", tuned_blocks(centre, n + 10, 0.01)) for n in range(1, 6)}
    for name, content in files.items():
        put_file(store, tmp_path, name, content)
    before = sum(blob.stored_nbytes for name in files for blob in blobs_of(store, name, "Q4_K"))
    assert optimize_all(store).rebased.tensors > 0
    assert sum(blob.stored_nbytes for name in files for blob in blobs_of(store, name, "Q4_K")) < before
    assert contents(store.path) == files
    collect_garbage(store)
    assert contents(store.path) == files
    assert problems(store) == []


@pytest.mark.parametrize("cut", [34 * 3000, 34 * 3000 + 5])
def test_parts_of_others_begin_and_end_between_blocks(store: Store, tmp_path: Path, cut: int) -> None:
    """Also where what they share begins elsewhere: what is left of the block belongs to the part beside it."""
    first, second = blocks("Q8_0", 400_010, 1), blocks("Q8_0", 380_000, 2)
    put_file(store, tmp_path, b"first", file_of("Q8_0", first))
    put_file(store, tmp_path, b"second", file_of("Q8_0", second))
    joined = blocks("Q8_0", cut, 3) + first[cut:300_000] + noise(34 - (300_000 - cut) % 34) + second[34 * 1000 :]
    put_file(store, tmp_path, b"joined", file_of("Q8_0", joined))
    inode = served_inode(store, b"joined")
    extents, blobs = store.catalog.extents(inode), store.catalog.blobs_of(inode)
    of_tensor = [extent for extent in extents if blobs[extent.blob_id].dtype == "Q8_0"]
    begin = of_tensor[0].offset
    assert len(of_tensor) > 2
    assert all((extent.offset - begin) % 34 == 0 for extent in of_tensor)
    assert all(blobs[extent.blob_id].dtype == "Q8_0" for extent in of_tensor)
    assert contents(store.path)[b"joined"] == file_of("Q8_0", joined)


def test_a_part_is_cut_between_blocks_and_has_the_shape_of_its_weights() -> None:
    span = Span(100, 34 * 1000 + 5, "Q8_0", (10, 3200), "w")
    match = PartialMatch(34 * 100, 34 * 300, 7, 11, None, 1.0, True, False)
    first, second, third = parts_of(span, [match])
    assert [part.span.shape for part in (first, second, third)] == [(1, 3200), (2, 3200), (22400,)]
    assert [part.span.offset - 100 for part in (first, second, third)] == [0, 3400, 10200]
    assert sum(part.span.nbytes for part in (first, second, third)) == span.nbytes
    assert second.base is not None
    assert second.base.view.offset == 34 * 100 + 11


def test_what_repeats_after_a_part_of_a_block_is_not_divided() -> None:
    span = Span(0, 34 * 20_000, "Q8_0", (20_000 * 32,), "w")
    assert parts_of_repetition(span, 34 * 10_000 + 8) == ()
    first, rest = parts_of_repetition(span, 34 * 10_000)
    assert (first.nbytes, rest.nbytes, rest.shape) == (34 * 10_000, 34 * 10_000, (320_000,))


def test_a_weight_takes_a_part_of_a_bit(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path, b"noise", file_of("Q8_0", noise(34 * 5000)))
    report = report_file(store, TensorNames(store), b"noise", served_inode(store, b"noise"))
    (one,) = [tensor for tensor in report.tensors if tensor.dtype == "Q8_0"]
    assert one.weights == 5000 * 32
    assert one.bits_per_weight == pytest.approx(8.5, abs=0.01)


@st.composite
def block_tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(BLOCK_DTYPES)))
    nbytes = draw(st.integers(1, 3000) | st.sampled_from([60_000, 100_001, frame_nbytes(dtype) + 1]))
    raw = blocks(dtype, nbytes, draw(st.integers(0, 2)))
    change = draw(st.integers(0, 2))
    return tensor(dtype, tuned_blocks(raw, change) if change else raw)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(block_tensors(), min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_blocks_come_back(tmp_path_factory: pytest.TempPathFactory, many: list[list[Tensor]]) -> None:
    root = tmp_path_factory.mktemp("blocks")
    files = {b"f%d" % n: chunks_file({f"t{m}": one for m, one in enumerate(row)}) for n, row in enumerate(many)}
    with open_store(root / "store", create=True) as store:
        for name, content in files.items():
            put_file(store, root, name, content)
        assert contents(store.path) == files
        assert problems(store) == []
