"""What every content of a file promises, however its bytes are kept: compressed in packs, or raw in the spool."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stores import copy_in, model, put_file, remove, served_inode, tuned, weights
from zipfs.codec import FRAME_NBYTES
from zipfs.reading import Content, Reader, open_content
from zipfs.store.objects.values import Inode, State
from zipfs.store.store import Store, open_store

BASE = weights(1_500_000)
WHOLE = model(tuned(BASE))
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A file with the bytes of WHOLE."""

    store: Store
    reader: Reader
    inode: Inode

    def open(self) -> Content:
        return open_content(self.store, self.reader, self.inode)


@pytest.fixture(params=[State.STORED, State.OPEN], ids=["in packs", "in the spool"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    with open_store(tmp_path / "store", create=True) as store:
        if request.param is State.STORED:
            put_file(store, tmp_path, b"base", model(BASE))
            put_file(store, tmp_path, b"file", WHOLE)
            inode = served_inode(store, b"file")
        else:
            inode = store.catalog.inode(copy_in(store, b"file", WHOLE).id)
        assert inode.state is request.param
        with Reader(store.frames) as reader:
            yield Kept(store, reader, inode)


@pytest.fixture
def content(kept: Kept) -> Iterator[Content]:
    content = kept.open()
    yield content
    content.close()


RANGES = [
    (0, 0),
    (0, 1),
    (0, len(WHOLE)),
    (0, len(WHOLE) + 5),
    (FRAME_NBYTES - 3, 6),
    (17, 2 * FRAME_NBYTES),
    (len(WHOLE) - 1, 1),
    (len(WHOLE) - 1, 100),
    (len(WHOLE), 10),
    (len(WHOLE) + 4096, 10),
]


def test_it_has_the_length_of_the_file(content: Content) -> None:
    assert content.nbytes == len(WHOLE)


@pytest.mark.parametrize(("offset", "nbytes"), RANGES)
def test_reads_are_exact_and_shorter_only_where_the_file_ends(content: Content, offset: int, nbytes: int) -> None:
    expected = WHOLE[offset : offset + nbytes]
    assert content.read(offset, nbytes) == expected
    assert content.submit(offset, nbytes).result(_PATIENCE_S) == expected
    cached = content.read_cached(offset, nbytes)
    assert cached is None or cached == expected


def test_what_was_just_read_is_in_memory(content: Content) -> None:
    for offset in (0, FRAME_NBYTES - 100, len(WHOLE) - 5000):
        content.read(offset, 4096)
        assert content.read_cached(offset, 4096) == WHOLE[offset : offset + 4096]


def test_any_thread_may_read(content: Content) -> None:
    def read(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(20):
            offset, nbytes = chance.randrange(len(WHOLE) + 100), chance.choice([1, 4096, 131_072, FRAME_NBYTES + 5])
            expected = WHOLE[offset : offset + nbytes]
            cached = content.read_cached(offset, nbytes)
            assert cached is None or cached == expected
            how = chance.choice(["read", "submit"])
            got = content.read(offset, nbytes) if how == "read" else content.submit(offset, nbytes).result(_PATIENCE_S)
            assert got == expected

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(read, range(6)))


def test_each_user_closes_it_on_its_own(kept: Kept) -> None:
    first = kept.open()
    second = first.again()
    third = second.again()
    first.close()
    assert second.read(100, 5000) == WHOLE[100:5100]
    second.close()
    assert third.read(0, third.nbytes) == WHOLE
    third.close()


def test_it_is_read_whatever_becomes_of_the_file(kept: Kept) -> None:
    content = kept.open()
    if kept.inode.state is State.STORED:
        remove(kept.store, b"file")
    else:
        kept.store.spool_path(kept.inode).unlink()
    other = content.again()
    assert content.read(0, content.nbytes) == WHOLE
    content.close()
    assert other.submit(5, FRAME_NBYTES).result(_PATIENCE_S) == WHOLE[5 : 5 + FRAME_NBYTES]
    other.close()


def test_an_answer_keeps_its_bytes_after_the_content_is_closed(kept: Kept) -> None:
    content = kept.open()
    answers = {offset: content.read(offset, 100_000) for offset in range(0, len(WHOLE), FRAME_NBYTES // 2)}
    content.close()
    again = kept.open()
    for offset in range(0, len(WHOLE), FRAME_NBYTES):
        again.read(len(WHOLE) - offset, FRAME_NBYTES)
    again.close()
    assert all(answer == WHOLE[offset : offset + 100_000] for offset, answer in answers.items())
