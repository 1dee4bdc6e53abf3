"""What is decoded ahead is given to a reader's page cache unasked: the right pages, in time, and no more than that."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.stores import noise, put_file, served_inode
from zipfs.serve import Content, Reader, open_content
from zipfs.serve.plan import PAGE_NBYTES
from zipfs.serve.reader import SLAB_NBYTES
from zipfs.store.rows import InodeId
from zipfs.store.store import open_store

FILE = noise(40 * (1 << 20) + 12_345)
_AT_ONCE = 128 << 10


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("push")
    with open_store(root / "store", create=True) as store:
        put_file(store, root, b"f", FILE)
    return root / "store"


class PageCache:
    """Reads a file as a kernel does: whole pages, kept once they are there, and asked for where they are not."""

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}
        self.asked_nbytes = 0
        self.pushed: list[tuple[int, int]] = []
        self.error: OSError | None = None
        self._lock = threading.Lock()

    def push(self, inode_id: InodeId, offset: int, data: memoryview) -> None:
        if self.error is not None:
            raise self.error
        assert offset % PAGE_NBYTES == 0
        assert len(data) % PAGE_NBYTES == 0
        assert offset + len(data) <= len(FILE)
        assert data == FILE[offset : offset + len(data)]
        with self._lock:
            self.pushed.append((offset, offset + len(data)))
            for at in range(0, len(data), PAGE_NBYTES):
                self.pages[offset + at] = bytes(data[at : at + PAGE_NBYTES])

    def read(self, content: Content, offset: int) -> bytes:
        """The page at `offset`; where it is missing, all that are missing in a row are asked for."""
        if offset not in self.pages:
            end = offset
            while end < offset + _AT_ONCE and end < len(FILE) and end not in self.pages:
                end += PAGE_NBYTES
            answer = content.submit(offset, end - offset).result()
            self.asked_nbytes += len(answer)
            for at in range(0, len(answer), PAGE_NBYTES):
                self.pages[offset + at] = bytes(answer[at : at + PAGE_NBYTES])
        return self.pages[offset]


@contextmanager
def reading(path: Path, cache: PageCache, cache_nbytes: int = 512 << 20) -> Iterator[tuple[Reader, Content]]:
    with (
        open_store(path, read_only=True, cache_nbytes=cache_nbytes) as store,
        Reader(store.frames, push=cache.push) as reader,
    ):
        content = open_content(store, reader, served_inode(store, b"f"))
        yield reader, content
        content.close()


def come_to_rest(reader: Reader) -> None:
    """Until all that was begun ahead is decoded and pushed."""
    for executor in (reader._ahead, reader._pusher.thread):
        together = threading.Barrier(executor._max_workers)  # no thread is busy when all of them have come here
        for one in [executor.submit(together.wait) for _ in range(executor._max_workers)]:
            one.result()


def test_a_reader_hardly_has_to_ask_and_gets_every_byte(path: Path) -> None:
    cache = PageCache()
    with reading(path, cache) as (reader, content):
        for offset in range(0, len(FILE), PAGE_NBYTES):
            if offset not in cache.pages:
                come_to_rest(reader)
            assert cache.read(content, offset) == FILE[offset : offset + PAGE_NBYTES]
        assert cache.asked_nbytes < len(FILE) // 10
        # It runs on although it sees a request in four MiB at most, and never far from the reader.
        assert max(end for _, end in cache.pushed) > len(FILE) - SLAB_NBYTES
        assert reader._ahead_nbytes <= 64 << 20


def test_nothing_is_pushed_that_was_asked_for(path: Path) -> None:
    cache = PageCache()
    with reading(path, cache) as (reader, content):
        for offset in range(0, 16 << 20, 1 << 20):
            content.submit(offset, 1 << 20).result()
            come_to_rest(reader)
            assert all(begin >= offset + (1 << 20) for begin, _ in cache.pushed)
            cache.pushed.clear()


def test_the_last_page_of_a_slab_is_left_to_be_asked_for(path: Path) -> None:
    cache = PageCache()
    with reading(path, cache) as (reader, content):
        content.submit(0, 1 << 20).result()
        come_to_rest(reader)
        edges = {end for _, end in cache.pushed}
        assert edges
        assert all(end not in cache.pages for end in edges)


def test_a_kernel_that_takes_nothing_is_left_alone(path: Path) -> None:
    cache = PageCache()
    cache.error = OSError(errno.ENOSYS, "no such call")
    with reading(path, cache) as (reader, content):
        for offset in range(0, len(FILE), 1 << 20):
            assert bytes(content.submit(offset, 1 << 20).result()) == FILE[offset : offset + (1 << 20)]
        come_to_rest(reader)
        cache.error = None
        content.submit(0, 1 << 20).result()
        come_to_rest(reader)
        assert cache.pushed == []


def test_small_reads_at_random_push_nothing(path: Path) -> None:
    cache = PageCache()
    with reading(path, cache) as (reader, content):
        for number in range(200):
            offset = number * 7_919 * PAGE_NBYTES % (39 << 20) // PAGE_NBYTES * PAGE_NBYTES
            content.submit(offset, PAGE_NBYTES).result()
        come_to_rest(reader)
        assert sum(end - begin for begin, end in cache.pushed) <= 8 << 20


def test_once_stopped_nothing_is_pushed(path: Path) -> None:
    cache = PageCache()
    with reading(path, cache) as (reader, content):
        content.submit(0, 1 << 20).result()
        reader.stop_pushing()
        before = list(cache.pushed)
        for offset in range(1 << 20, 8 << 20, 1 << 20):
            content.submit(offset, 1 << 20).result()
        reader._ahead.shutdown()
        assert cache.pushed == before
