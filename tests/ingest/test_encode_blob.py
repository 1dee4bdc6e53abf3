"""Frames of several blobs are coded at once: what is in the pack is as if they had been coded one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.stores import tuned, weights
from zipfs.codec import FRAME_NBYTES, encode_frame
from zipfs.errors import PackDamaged
from zipfs.ingest import encode_blob
from zipfs.ingest.encode_blob import BlobEncoder, BlobInWork
from zipfs.ingest.source import SourceError
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BlobId, frame_seed
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.writer import PackWriter

FRAMES = (3, 1, 1, 2, 1, 4)
CONTENTS = [weights(count * FRAME_NBYTES // 2 - 1000, count) for count in FRAMES]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[PackWriter]:
    made = PackWriter(LocalPacks(tmp_path))
    yield made
    made.abandon()


class Begun:
    """Blobs that are begun one after the other; the first frame of the first one is coded last."""

    def __init__(self, encoder: BlobEncoder) -> None:
        self.encoder = encoder
        self.others_coded = threading.Semaphore(0)
        self.appended: list[int] = []

    def begin(
        self, number: int, raw: bytes, base: OpenBlob | None = None, *, may_fall_back: bool = False
    ) -> BlobInWork:
        def read(index: int, nbytes: int) -> bytes:
            if (number, index) == (0, 0):
                assert self.others_coded.acquire(timeout=60)
            else:
                self.others_coded.release()
            return raw[index * FRAME_NBYTES :][:nbytes]

        against = None if base is None else (base, View(0, len(raw)))
        told = (lambda error: None) if may_fall_back else None
        return self.encoder.begin(
            BlobInWork(
                BlobId(number + 1),
                bytes(16),
                "BF16",
                (len(raw) // 2,),
                len(raw),
                read,
                against,
                self.appended.append,
                told,
            )
        )


def stored_frames(blob: OpenBlob) -> list[bytes]:
    return [blob.pack.read(*blob.stored(number)[1:]) for number in range(len(blob.blob.frames))]


def frames_of(number: int, raw: bytes, base: bytes | None = None) -> list[bytes]:
    cuts = [slice(at, at + FRAME_NBYTES) for at in range(0, len(raw), FRAME_NBYTES)]
    return [
        encode_frame(raw[cut], "BF16", None if base is None else base[cut], frame_seed(BlobId(number + 1), index))
        for index, cut in enumerate(cuts)
    ]


def test_blobs_are_in_the_pack_in_their_order_whichever_is_coded_first(writer: PackWriter, executor: Executor) -> None:
    done: list[BlobId] = []
    begun = Begun(BlobEncoder(writer, FrameCache(1 << 24), executor, lambda blob: done.append(blob.blob.id)))
    works = [begun.begin(number, raw) for number, raw in enumerate(CONTENTS)]
    found = [begun.encoder.finish(work) for work in works]
    assert done == [packed.blob.id for packed in writer.blobs] == list(range(1, 1 + len(CONTENTS)))
    assert sum(begun.appended) == sum(map(len, CONTENTS))
    for number, (blob, raw) in enumerate(zip(found, CONTENTS, strict=True)):
        assert stored_frames(blob) == frames_of(number, raw)
    ends = [one.blob.pack_offset + one.blob.stored_nbytes for one in found]
    assert [one.blob.pack_offset for one in found[1:]] == ends[:-1]


def test_no_more_than_its_limit_is_in_work(
    writer: PackWriter, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 5 * FRAME_NBYTES
    monkeypatch.setattr(encode_blob, "AHEAD_NBYTES", limit)
    lock = threading.Lock()
    read_nbytes = 0
    appended_nbytes = 0
    most_nbytes = 0
    raw = CONTENTS[0]

    def read(index: int, nbytes: int) -> bytes:
        nonlocal read_nbytes, most_nbytes
        with lock:
            read_nbytes += nbytes
            most_nbytes = max(most_nbytes, read_nbytes - appended_nbytes)
        return raw[index * FRAME_NBYTES :][:nbytes]

    def passed(nbytes: int) -> None:
        nonlocal appended_nbytes
        with lock:
            appended_nbytes += nbytes

    encoder = BlobEncoder(writer, FrameCache(1 << 24), executor)
    for number in range(12):
        encoder.begin(BlobInWork(BlobId(number + 1), bytes(16), "BF16", (1,), len(raw), read, None, passed))
    assert appended_nbytes >= 12 * len(raw) - limit
    # What was appended is told of a moment after the next frame may have been read.
    assert FRAME_NBYTES < most_nbytes <= limit + FRAME_NBYTES
    encoder.drop_all()


def test_a_blob_is_known_to_have_a_base_before_all_of_it_is_coded(writer: PackWriter, executor: Executor) -> None:
    frames = FrameCache(1 << 24)
    begun = Begun(BlobEncoder(writer, frames, executor))
    begun.others_coded.release()
    base = begun.encoder.finish(begun.begin(0, CONTENTS[0]))
    near, other = tuned(CONTENTS[0]), np.random.default_rng(3).bytes(len(CONTENTS[0]))
    member, stranger = begun.begin(1, near, base), begun.begin(2, other, base)
    assert begun.encoder.is_member(begun.begin(3, near), wait=False) is False
    assert begun.encoder.is_member(member, wait=True) is True
    assert begun.encoder.is_member(stranger, wait=True) is False
    found = begun.encoder.finish(stranger)
    assert found.base is None and found.blob.base is None
    assert member.done is not None and member.done.base is base
    assert stored_frames(member.done) == frames_of(1, near, CONTENTS[0])


def test_what_has_a_damaged_base_is_coded_without_it_and_all_behind_it_stay(
    writer: PackWriter, executor: Executor
) -> None:
    begun = Begun(BlobEncoder(writer, FrameCache(1 << 24), executor))
    begun.others_coded.release()
    base = begun.encoder.finish(begun.begin(0, CONTENTS[0]))
    with_damage = OpenBlob(base.blob, base.pack, None, base.ends + 7)
    near = tuned(CONTENTS[0])
    member, behind = begun.begin(1, near, with_damage, may_fall_back=True), begun.begin(2, near, base)
    assert begun.encoder.is_member(member, wait=True) is False
    assert stored_frames(begun.encoder.finish(member)) == frames_of(1, near)
    assert stored_frames(begun.encoder.finish(behind)) == frames_of(2, near, CONTENTS[0])
    begun = Begun(BlobEncoder(writer, FrameCache(1 << 24), executor))  # nothing that is in memory may help
    with pytest.raises(PackDamaged):
        begun.encoder.finish(begun.begin(3, near, with_damage))
    begun.encoder.drop_all()
    assert [packed.blob.id for packed in writer.blobs] == [1, 2, 3]


def test_nothing_is_left_of_what_cannot_be_read(writer: PackWriter, executor: Executor) -> None:
    encoder = BlobEncoder(writer, FrameCache(1 << 24), executor)
    raw = CONTENTS[-1]

    def fails_late(index: int, nbytes: int) -> bytes:
        if index == 2:
            raise SourceError("x", "cannot be read")
        return raw[index * FRAME_NBYTES :][:nbytes]

    encoder.encode(BlobInWork(BlobId(1), bytes(16), "BF16", (1,), FRAME_NBYTES, fails_late, None, lambda nbytes: None))
    nbytes = writer.nbytes
    with pytest.raises(SourceError):
        encoder.encode(BlobInWork(BlobId(2), bytes(16), "BF16", (1,), len(raw), fails_late, None, lambda nbytes: None))
    assert writer.nbytes == nbytes
    assert [packed.blob.id for packed in writer.blobs] == [1]
