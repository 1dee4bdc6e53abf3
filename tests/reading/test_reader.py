"""Reads that overlap, fail, and outlive their file: each gets its own answer, and nothing is left behind."""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, poll, run
from tests.support.stores import model, noise, put_file, served_inode, tuned, weights
from zipfs.codec import FRAME_NBYTES
from zipfs.errors import PackDamaged
from zipfs.metrics.counters import Counters
from zipfs.reading import Content, Reader, open_content
from zipfs.reading.file_slices import FileSlices
from zipfs.reading.windows import OpenFile, Window
from zipfs.store.frames import fetch as frames_fetch
from zipfs.store.frames.open_blob import open_blob
from zipfs.store.objects.values import BlobId, Extent, InodeId
from zipfs.store.packs.ranges import Stored, fetch
from zipfs.store.store import Store, open_store

BASE = weights(5 << 20)
FILES = {b"base": model(BASE), b"tuned": model(tuned(BASE)), b"noise": noise(9 * FRAME_NBYTES + 5)}
_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reader")
    with open_store(root / "store", create=True) as store:
        for name, content in FILES.items():
            put_file(store, root, name, content)
    return root / "store"


@contextmanager
def opened(path: Path, cache_nbytes: int = 64 << 20) -> Iterator[tuple[Store, Reader]]:
    with open_store(path, read_only=True, cache_nbytes=cache_nbytes) as store, Reader(store.frames) as reader:
        yield store, reader


def open_file(store: Store, reader: Reader, name: bytes) -> Content:
    return open_content(store, reader, served_inode(store, name))


class Gate:
    """Holds up whoever reads from a pack, and fails the reads of frames that it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.bad: set[tuple[int, int]] = set()
        """(offset in the pack, bytes) of frames as they are stored."""
        self.error: Exception = PackDamaged("pack", 0, "told to be")
        self.failures = 0
        self._fetch = fetch

    def fetch(self, ranges: Sequence[Stored], outs: Sequence[memoryview]) -> list[memoryview]:
        assert self.open.wait(_PATIENCE_S)
        if any((one.offset, one.nbytes) in self.bad for one in ranges):
            self.failures += 1
            raise self.error
        return self._fetch(ranges, outs)

    def spoil(self, store: Store, name: bytes, *slices: int) -> None:
        """Have frames of a file's only blob of many frames fail."""
        inode = served_inode(store, name)
        extent = max(store.catalog.extents(inode), key=lambda extent: extent.nbytes)
        blob = store.catalog.blob(extent.blob_id)
        source = open_blob(store.packs.open, blob, store.catalog.blob)
        for index in slices:
            stored = source.stored(index)
            self.bad.add((stored.offset, stored.nbytes))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(frames_fetch, "fetch", gate.fetch)
    return gate


@contextmanager
def no_collection() -> Iterator[None]:
    """Whatever is let go has to go by itself: what waits for a collection of garbage is memory above the limit."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, Window | OpenFile)]


def windows() -> list[Window]:
    """All that somebody reads or that are being decoded."""
    return [window for file in gc.get_objects() if isinstance(file, OpenFile) for window in list(file.windows.values())]


def end_threads(reader: Reader) -> None:
    """So that none is still about to let go of something."""
    reader._ahead.shutdown()
    reader._demand.shutdown()


def outcome(answer: Future[bytes | memoryview]) -> bytes | str:
    error = answer.exception(_PATIENCE_S)
    return bytes(answer.result()) if error is None else type(error).__name__


@pytest.mark.slow
@pytest.mark.parametrize("how", ["read", "submit"])
def test_nothing_is_left_of_a_file_that_was_read_and_closed(path: Path, how: str) -> None:
    with opened(path) as (store, reader), no_collection():
        for name, expected in FILES.items():
            content = open_file(store, reader, name)
            for at in range(0, len(expected), FRAME_NBYTES + 777):
                wanted = expected[at : at + FRAME_NBYTES]
                if how == "read":
                    assert bytes(content.read(at, FRAME_NBYTES)) == wanted
                else:
                    assert outcome(content.submit(at, FRAME_NBYTES)) == wanted
            content.close()
            del content
        end_threads(reader)
        assert left() == []
        assert reader.nbytes == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["read", "submit"])
def test_nothing_is_left_of_a_read_that_failed(path: Path, gate: Gate, how: str) -> None:
    """Errors know where they were raised, and with that all that was at hand there."""
    with opened(path) as (store, reader):
        gate.spoil(store, b"noise", 1, 2, 6)
        with no_collection():
            content = open_file(store, reader, b"noise")
            for at in range(0, len(FILES[b"noise"]), FRAME_NBYTES // 2):
                if how == "submit":
                    outcome(content.submit(at, FRAME_NBYTES))
                    continue
                try:
                    content.read(at, FRAME_NBYTES)
                except PackDamaged:
                    continue
            assert gate.failures
            content.close()
            del content
            end_threads(reader)
            assert left() == []


@pytest.mark.parametrize("threads", [1, 6])
@pytest.mark.parametrize("how", ["read", "submit"])
def test_only_reads_of_what_is_damaged_fail(path: Path, gate: Gate, threads: int, how: str) -> None:
    """Also where what is damaged was decoded ahead together with what is not, again and again."""
    bad = {2, 3, 7}
    expected = FILES[b"noise"]
    with opened(path) as (store, reader):
        gate.spoil(store, b"noise", *bad)
        content = open_file(store, reader, b"noise")
        wrong: list[tuple[int, str]] = []

        def read(number: int) -> None:
            for round_ in range(4):
                for at in range((number + round_) % 3 * 999, len(expected), 131_072):
                    wanted: bytes | str = expected[at : at + 100_000]
                    slices = {at // FRAME_NBYTES, (min(at + 100_000, len(expected)) - 1) // FRAME_NBYTES}
                    if slices & bad:
                        wanted = "PackDamaged"
                    if how == "submit":
                        got = outcome(content.submit(at, 100_000))
                    else:
                        try:
                            got = bytes(content.read(at, 100_000))
                        except PackDamaged:
                            got = "PackDamaged"
                    if got != wanted:
                        wrong.append((at, got if isinstance(got, str) else "other bytes"))

        running = [threading.Thread(target=read, args=[number]) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()
        assert wrong == []
        content.close()


@pytest.mark.slow
def test_what_is_damaged_is_not_decoded_ahead_with_each_request(path: Path, gate: Gate) -> None:
    with opened(path) as (store, reader):
        gate.spoil(store, b"noise", 5)
        content = open_file(store, reader, b"noise")
        for at in range(2 * FRAME_NBYTES, 5 * FRAME_NBYTES, 65_536):
            assert bytes(content.read(at, 65_536)) == FILES[b"noise"][at : at + 65_536]
            poll(
                lambda: all(window.content is not None for window in windows() if window.ahead),
                what="all to be decoded",
            )
        assert 1 <= gate.failures <= 2
        content.close()


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "told to"), PackDamaged("pack", 0, "told to be")])
def test_a_failure_that_passes_is_forgotten(path: Path, gate: Gate, error: Exception) -> None:
    gate.error = error
    with opened(path) as (store, reader):
        content = open_file(store, reader, b"tuned")
        gate.spoil(store, b"tuned", *range(10))
        for at in (0, 5 * FRAME_NBYTES):
            with pytest.raises(type(error)):
                content.read(at, 2 * FRAME_NBYTES)
            with pytest.raises(type(error)):
                content.submit(at, 2 * FRAME_NBYTES).result(_PATIENCE_S)
        gate.bad.clear()
        assert bytes(content.read(0, content.nbytes)) == FILES[b"tuned"]
        content.close()


def test_reads_under_way_are_answered_though_the_file_is_closed(path: Path, gate: Gate) -> None:
    """More of them than there are threads, so that some have not begun."""
    expected = FILES[b"noise"]
    with opened(path) as (store, reader):
        content = open_file(store, reader, b"noise")
        gate.open.clear()
        answers = {at: content.submit(at, 70_000) for at in range(0, len(expected), FRAME_NBYTES // 3)}
        content.close()
        gate.open.set()
        for at, answer in answers.items():
            assert outcome(answer) == expected[at : at + 70_000]
        assert reader.nbytes == 0


def test_an_answer_that_nobody_wants_any_more_does_not_keep_others_from_theirs(path: Path, gate: Gate) -> None:
    with opened(path) as (store, reader):
        content = open_file(store, reader, b"noise")
        gate.open.clear()
        answers = [content.submit(10 * number, 5) for number in range(4)]
        answers[0].cancel()
        answers[2].cancel()
        gate.open.set()
        for number in (1, 3):
            assert outcome(answers[number]) == FILES[b"noise"][10 * number : 10 * number + 5]
        content.close()


def test_a_reader_that_is_closed_while_a_read_fails_answers_it(path: Path, gate: Gate) -> None:
    """Its parts cannot be tried one by one any more."""
    with opened(path) as (store, reader):
        gate.spoil(store, b"noise", 1)
        content = open_file(store, reader, b"noise")
        gate.open.clear()
        answer = content.submit(0, 3 * FRAME_NBYTES)
        closing = threading.Thread(target=reader._demand.shutdown)
        closing.start()
        poll(lambda: reader._demand._shutdown)
        gate.open.set()
        assert answer.exception(_PATIENCE_S) is not None
        closing.join(_PATIENCE_S)
        assert not closing.is_alive()


_AS_SOMEBODY_NICE = """
import os
from zipfs.reading import Reader
from zipfs.store.frames.cache import FrameCache
os.nice(10)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with Reader(FrameCache(0)) as reader:
    print(reader._ahead.submit(os.getpriority, os.PRIO_PROCESS, 0).result(60))
    print(reader.run(os.getpriority, os.PRIO_PROCESS, 0).result(60))
"""


def test_decoding_ahead_gives_way_also_where_all_of_it_has_a_low_rank() -> None:
    """An ordinary user may lower a rank and never raise one."""
    rank = os.getpriority(os.PRIO_PROCESS, 0)
    said = run(sys.executable, "-c", _AS_SOMEBODY_NICE, cwd=REPOSITORY)
    assert said.split() == [str(min(rank + lower, 19)) for lower in (13, 10)]


def test_files_are_read_where_no_rank_may_be_lowered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    with opened(path) as (store, reader):
        content = open_file(store, reader, b"noise")
        for offset in range(0, content.nbytes, FRAME_NBYTES):
            assert content.read(offset, FRAME_NBYTES) == FILES[b"noise"][offset : offset + FRAME_NBYTES]
        assert reader._ahead.submit(len, b"ahead").result(_PATIENCE_S) == 5
        content.close()


def test_what_the_page_cache_has_is_not_decoded_ahead_again(path: Path) -> None:
    """Loaders touch the beginnings of all tensors, and then read what lies between."""
    with opened(path) as (store, reader):
        content = open_file(store, reader, b"noise")
        tail = 6 * FRAME_NBYTES
        assert content.read(tail, content.nbytes - tail) == FILES[b"noise"][tail:]
        while reader.drop_one():
            pass
        for offset in range(0, tail, FRAME_NBYTES):
            content.read(offset, FRAME_NBYTES)
        reader._ahead.shutdown()
        counters = reader._counters.snapshot()
        assert counters.tallies["prefetched"].nbytes <= tail
        content.close()


def test_a_slice_is_kept_once_all_of_it_was_asked_for_and_until_it_is_asked_for_again() -> None:
    slices = FileSlices([Extent(0, 3 * FRAME_NBYTES + 10, BlobId(1), 0)], [FRAME_NBYTES])
    file = OpenFile((InodeId(1), 0), slices, {}, {})
    file.note_answer(100, FRAME_NBYTES)
    assert not file.is_kept(0)
    file.note_answer(0, 100)
    file.note_answer(2 * FRAME_NBYTES, 5 * FRAME_NBYTES)
    assert [file.is_kept(number) for number in range(4)] == [True, False, True, True]
    file.note_answer(FRAME_NBYTES - 10, 20)
    assert file.is_kept(0)
    for _ in range(4):
        assert file.is_kept(0)
        file.note_answer(2 * FRAME_NBYTES, FRAME_NBYTES + 10)
    assert [file.is_kept(number) for number in range(4)] == [False, False, True, True]  # by the last request


def test_two_readers_of_one_store_count_what_was_done_for_each(path: Path) -> None:
    first, second = Counters(), Counters()
    with (
        open_store(path, read_only=True) as store,
        Reader(store.frames, first) as one,
        Reader(store.frames, second) as other,
    ):
        content = open_file(store, one, b"noise")
        assert content.read(0, content.nbytes) == FILES[b"noise"]
        content.close()
        decoded = [counters.snapshot().stages["decode"].nbytes for counters in (first, second)]
        assert decoded == [len(FILES[b"noise"]), 0]
        content = open_file(store, other, b"tuned")
        assert content.read(0, content.nbytes) == FILES[b"tuned"]
        content.close()
        assert first.snapshot().stages["decode"].nbytes == len(FILES[b"noise"])
        assert second.snapshot().stages["decode"].nbytes >= len(FILES[b"tuned"]) + len(BASE)
        assert second.snapshot().stages["fetch"].nbytes > 0
        assert first.snapshot().tallies["base_misses"].count == 0
        assert second.snapshot().tallies["base_misses"].count == len(BASE) // FRAME_NBYTES


def test_an_answer_keeps_its_bytes_though_its_window_is_dropped_and_the_file_closed(path: Path) -> None:
    """As the kernel's answer does while it is sent, and others are decoded."""
    with opened(path, cache_nbytes=8 << 20) as (store, reader):
        content = open_file(store, reader, b"noise")
        answers = {at: content.read(at, 100_000) for at in range(0, 8 * FRAME_NBYTES, FRAME_NBYTES)}
        content.close()
        assert reader.nbytes == 0
        content = open_file(store, reader, b"tuned")
        for at in range(0, content.nbytes, FRAME_NBYTES):
            content.read(at, FRAME_NBYTES)
        content.close()
        for at, answer in answers.items():
            assert answer == FILES[b"noise"][at : at + 100_000]
