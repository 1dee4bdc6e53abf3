"""Whatever is stored comes back: any tensors, any files, any range of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.hostile import BITS_OF_DTYPE, costly_headers, hostile_files, valid_files
from tests.support.stores import (
    Tensor,
    collect_garbage,
    contents,
    import_path,
    noise,
    problems,
    put_file,
    run,
    tensor_file,
    write_tree,
)
from zipfs.codec import FRAME_NBYTES, frame_nbytes
from zipfs.ingest.import_tree import find
from zipfs.reading import Content, Reader, open_content
from zipfs.reading.file_slices import FileSlices
from zipfs.store.namespace import tree
from zipfs.store.namespace.unfinished import UnfinishedNames
from zipfs.store.objects.values import BlobId, Extent
from zipfs.store.store import Store, open_store


@contextmanager
def fresh() -> Iterator[tuple[Store, Path]]:
    """A new store and a directory for files of the host."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with open_store(root / "store", create=True) as store:
            yield store, root


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any type and size, some empty, many like one another: shapes and seeds are drawn from a few."""
    dtype = draw(st.sampled_from(sorted(BITS_OF_DTYPE)))
    items = draw(st.sampled_from([0, 1, 2, 3, 5, 7, 64, 1000, 3001]))
    step = 8 // np.gcd(8, BITS_OF_DTYPE[dtype] % 8 or 8)
    items *= int(step)
    nbytes = items * BITS_OF_DTYPE[dtype] // 8
    base = np.random.default_rng(draw(st.integers(0, 2))).integers(0, 60, nbytes, np.uint8)
    change = draw(st.integers(0, 3))
    if change:
        rng = np.random.default_rng(change)
        base = base ^ (rng.random(nbytes) < 0.05).view(np.uint8)
    shape = draw(st.sampled_from([[items], [1, items], [items, 1]]))
    return dtype, shape, base.tobytes()


model_files = st.lists(tensors(), max_size=6).map(
    lambda many: tensor_file({f"t{number}": tensor for number, tensor in enumerate(many)})
)
plain_files = st.one_of(
    st.just(b""),
    st.binary(min_size=1, max_size=1),
    st.binary(max_size=200),
    st.integers(0, 3).map(lambda seed: noise(5000, seed)),
    st.integers(1, 3).map(lambda times: b"the same again " * 300 * times),
)
ALL_NAMES = UnfinishedNames(standard=False)
"""Any name may come up, also one that downloaders use for what is not finished."""

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & set(b"/\0~") and not name.startswith(b".") and b"." not in name
)


@given(st.dictionaries(names, model_files | plain_files, max_size=5))
def test_any_mix_of_files_comes_back(files: dict[bytes, bytes]) -> None:
    with fresh() as (store, root):
        found = find(store, write_tree(root / "source", files), b"m", ALL_NAMES)
        run(store, found)
        expected = {b"m/" + name: content for name, content in files.items()}
        assert contents(store.path) == expected
        assert problems(store) == []
        collect_garbage(store)
        assert contents(store.path) == expected


def test_hostile_files_come_back() -> None:
    """None is refused, none is altered, whatever its header claims; also when they are stored twice."""
    files = {name.encode(): content for source in (hostile_files(), valid_files()) for name, content in source}
    files |= {b"costly-" + name.encode(): content for name, content in costly_headers(100_000)}
    with fresh() as (store, root):
        source = write_tree(root / "source", files)
        for top in (b"m", b"again"):
            listener = import_path(store, source, top)
            assert listener.failures == []
        found = contents(store.path)
        for name, content in files.items():
            assert found[b"m/" + name] == content, name
            assert found[b"again/" + name] == content, name
        assert len(found) == 2 * len(files)
        assert problems(store) == []


LARGE = {
    "opaque": noise(2 * FRAME_NBYTES + 12_345, 1),
    "model": tensor_file(
        {
            "a": ("F32", [FRAME_NBYTES // 4 + 3], noise(FRAME_NBYTES + 12, 2)),
            "e": ("F32", [0], b""),
            "b": ("U8", [7], b"1234567"),
            "c": ("BF16", [FRAME_NBYTES // 2], noise(FRAME_NBYTES, 3)),
        }
    ),
    "empty": b"",
    "byte": b"x",
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    root = tmp_path_factory.mktemp("large")
    with open_store(root / "store", create=True, cache_nbytes=8 * FRAME_NBYTES) as store:
        for name, content in LARGE.items():
            put_file(store, root, name.encode(), content)
        yield store


NEAR_BORDERS = st.integers(0, 3).flatmap(lambda n: st.integers(n * FRAME_NBYTES - 300, n * FRAME_NBYTES + 300))
OFFSETS = st.integers(0, 4 * FRAME_NBYTES) | NEAR_BORDERS.map(lambda offset: max(0, offset))
LENGTHS = st.integers(0, 600) | st.integers(0, 3 * FRAME_NBYTES) | st.just(1 << 40)


@settings(max_examples=200)
@given(name=st.sampled_from(sorted(LARGE)), ranges=st.lists(st.tuples(OFFSETS, LENGTHS), min_size=1, max_size=4))
def test_any_range_is_the_slice_of_the_file(large: Store, name: str, ranges: list[tuple[int, int]]) -> None:
    with Reader(large.frames) as reader:
        content = open_content(large, reader, tree.resolve(large.catalog, name.encode()))
        _check_ranges(content, LARGE[name], ranges)
        content.close()


def _check_ranges(content: Content, whole: bytes, ranges: list[tuple[int, int]]) -> None:
    assert content.nbytes == len(whole)
    for offset, nbytes in ranges:
        expected = whole[offset : offset + nbytes]
        cached = content.read_cached(offset, nbytes)
        assert cached is None or bytes(cached) == expected
        assert bytes(content.read(offset, nbytes)) == expected
        if nbytes <= 2 * FRAME_NBYTES:
            again = content.read_cached(offset, nbytes)
            assert again is not None
            assert bytes(again) == expected


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[Extent, ...], list[int]]:
    """Extents, and the raw bytes of frames of the blob of each."""
    extents, offset = [], 0
    steps = draw(st.lists(st.sampled_from([frame_nbytes("BF16"), frame_nbytes("Q8_0")]), min_size=3, max_size=3))
    for number in range(draw(st.integers(0, 5))):
        nbytes = draw(st.integers(1, 5) | st.integers(FRAME_NBYTES - 2, 2 * FRAME_NBYTES + 2))
        step = steps[number % 3]
        start = draw(st.sampled_from([0, 1, step - 1, step, FRAME_NBYTES, 3 * FRAME_NBYTES + 17]))
        extents.append(Extent(offset, nbytes, BlobId(number % 3 + 1), start))
        offset += nbytes
    return tuple(extents), [steps[extent.blob_id - 1] for extent in extents]


@given(layouts())
def test_the_slices_of_a_file_are_exactly_its_bytes(made: tuple[tuple[Extent, ...], list[int]]) -> None:
    extents, steps = made
    slices = FileSlices(extents, steps)
    assert slices.nbytes == sum(extent.nbytes for extent in extents)
    at = 0
    for number in range(len(slices)):
        file_slice = slices[number]
        assert file_slice.offset == at
        held = next(n for n, extent in enumerate(extents) if extent.offset <= at < extent.offset + extent.nbytes)
        extent, step = extents[held], steps[held]
        assert 0 <= file_slice.start < file_slice.start + file_slice.nbytes <= step
        assert file_slice.blob_id == extent.blob_id
        assert file_slice.frame * step + file_slice.start == extent.blob_offset + at - extent.offset
        at += file_slice.nbytes
        assert at <= extent.offset + extent.nbytes
        assert slices.at(file_slice.offset) == slices.at(at - 1) == number
        assert slices.extent_at(at - 1) == extent
    assert at == slices.nbytes
