"""Frames and the bases that they are coded against: decoded once, by one of many threads, whatever fails meanwhile."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.mounts import poll
from tests.support.stores import noise, tuned, weights
from zipfs.codec import FRAME_NBYTES, Cast, FrameJob, decode_frames, encode_frame
from zipfs.errors import FrameDamaged, PackDamaged
from zipfs.store.frames import decode as frames_decode
from zipfs.store.frames.buffers import buffer_nbytes
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.decode_plan import Target, frames_of_bases, plan_step
from zipfs.store.frames.open_blob import OpenBlob, open_blob
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, Blob, BlobId, frame_seed
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.writer import PackWriter

FRAMES = 6
BASE = weights(FRAMES * FRAME_NBYTES // 2 + 300)
WIDE = np.random.default_rng(4).normal(0, 0.05, FRAMES * FRAME_NBYTES // 4).astype("<f4").tobytes()
OFFSET = FRAME_NBYTES // 2 + 2
NARROWED = View(OFFSET + 2, len(WIDE) - OFFSET - 2, Cast("F32", "BF16"))


def _seen(view: View, base: bytes, nbytes: int) -> bytes:
    """The first `nbytes` bytes of a view."""
    out = bytearray(nbytes)
    offset, needed = view.needed(0, nbytes)
    view.fill([memoryview(base)[offset : offset + needed]], memoryview(out))
    return bytes(out)


RAW: Mapping[str, bytes] = {
    "base": BASE,
    "wide": WIDE,
    "tuned": tuned(BASE),
    "other": tuned(BASE, 2),
    "slice": tuned(BASE[OFFSET : OFFSET + 3 * FRAME_NBYTES + 500], 3),
    "grown": tuned(BASE, 4) + bytes(FRAME_NBYTES + 10),
    "narrow": tuned(_seen(NARROWED, WIDE, 2 * FRAME_NBYTES + 600), 5),
    "alone": noise(2 * FRAME_NBYTES + 1),
}
IDS = {name: BlobId(number) for number, name in enumerate(RAW, start=1)}
BASES = {
    "tuned": BaseRef(IDS["base"], View(0, len(BASE))),
    "other": BaseRef(IDS["base"], View(0, len(BASE))),
    "slice": BaseRef(IDS["base"], View(OFFSET, len(RAW["slice"]))),
    "grown": BaseRef(IDS["base"], View(0, len(BASE))),
    "narrow": BaseRef(IDS["wide"], NARROWED),
}
_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenBlob]:
    """Blobs in one pack. Of `slice` each frame needs two frames of its base, of `narrow` up to three."""
    writer = PackWriter(LocalPacks(tmp_path_factory.mktemp("packs")))
    packed: dict[BlobId, Blob] = {}
    for name, raw in RAW.items():
        reference = BASES.get(name)
        against = None
        if reference is not None:
            against = _seen(reference.view, BASE if reference.blob_id == IDS["base"] else WIDE, len(raw))
        writer.begin_blob()
        for index, at in enumerate(range(0, len(raw), FRAME_NBYTES)):
            cut = slice(at, at + FRAME_NBYTES)
            base = None if against is None else against[cut]
            writer.append_frame(encode_frame(raw[cut], "BF16", base, frame_seed(IDS[name], index)))
        packed[IDS[name]] = writer.end_blob(IDS[name], len(raw), bytes(16), "BF16", (len(raw) // 2,), reference)
    return {name: open_blob(lambda name: writer.file, packed[IDS[name]], packed.__getitem__) for name in RAW}


class Codec:
    """Decodes, and notes which frames; fails those that it is told to."""

    def __init__(self) -> None:
        self.decoded: Counter[int] = Counter()
        self.bad: dict[int, Exception] = {}
        self.before: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def decode(self, jobs: Sequence[FrameJob]) -> None:
        self.before()
        for position, job in enumerate(jobs):
            error = self.bad.get(job.seed)
            if error is not None:
                decode_frames(jobs[:position])
                raise FrameDamaged("told to be", position) if isinstance(error, PackDamaged) else error
        decode_frames(jobs)
        with self._lock:
            self.decoded.update(job.seed for job in jobs)


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Codec:
    codec = Codec()
    monkeypatch.setattr(frames_decode, "decode_frames", codec.decode)
    return codec


def seed(name: str, index: int) -> int:
    return frame_seed(IDS[name], index)


def targets(cache: FrameCache, sources: Mapping[str, OpenBlob], wanted: Sequence[tuple[str, int]]) -> list[Target]:
    return [
        Target(sources[name], index, cache.buffers.take(sources[name].blob.frame_nbytes(index)))
        for name, index in wanted
    ]


def expected(name: str, index: int) -> bytes:
    return RAW[name][index * FRAME_NBYTES : (index + 1) * FRAME_NBYTES]


def decode(cache: FrameCache, sources: Mapping[str, OpenBlob], wanted: Sequence[tuple[str, int]]) -> None:
    """Decode frames and compare them."""
    made = targets(cache, sources, wanted)
    cache.decode_into(made)
    for (name, index), target in zip(wanted, made, strict=True):
        assert target.out == expected(name, index), (name, index)


def all_frames(sources: Mapping[str, OpenBlob]) -> list[tuple[str, int]]:
    return [(name, index) for name in RAW for index in range(len(sources[name].blob.frames))]


def check_rest(cache: FrameCache) -> None:
    """Nobody waits, and what is kept is what is counted."""
    assert cache._underway == {}
    assert cache.nbytes == sum(buffer_nbytes(len(frame)) for frame in cache._frames.values())
    assert cache.budget.used_nbytes <= cache.budget.nbytes


BUDGETS = [0, FRAME_NBYTES, 3 * FRAME_NBYTES, 256 << 20]


@pytest.mark.slow
@pytest.mark.parametrize("budget_nbytes", BUDGETS)
def test_any_frames_in_one_call(sources: dict[str, OpenBlob], budget_nbytes: int) -> None:
    cache = FrameCache(budget_nbytes)
    chance = random.Random(1)
    for _ in range(10):
        wanted = all_frames(sources) * 2
        chance.shuffle(wanted)
        decode(cache, sources, wanted[: chance.randrange(1, len(wanted))])
        check_rest(cache)


def test_a_base_that_is_needed_is_decoded_on_the_way_and_kept(sources: dict[str, OpenBlob], codec: Codec) -> None:
    cache = FrameCache(64 << 20)
    decode(cache, sources, [("tuned", 0), ("tuned", 1)])
    decode(cache, sources, [("other", 0), ("other", 1)])
    assert codec.decoded == {seed(name, index): 1 for name in ("base", "tuned", "other") for index in (0, 1)}
    kept = cache.cached(IDS["base"], 1)
    assert kept is not None
    assert kept == expected("base", 1)
    assert cache.cached(IDS["tuned"], 1) is None


def test_a_range_of_a_base_that_two_frames_hold(sources: dict[str, OpenBlob], codec: Codec) -> None:
    cache = FrameCache(64 << 20)
    decode(cache, sources, [("slice", 1)])
    assert codec.decoded == {seed("slice", 1): 1, seed("base", 1): 1, seed("base", 2): 1}
    decode(cache, sources, [("slice", 3), ("slice", 0)])
    assert codec.decoded[seed("base", 3)] == codec.decoded[seed("base", 0)] == 1


def test_ranges_that_are_cast_or_end_early(sources: dict[str, OpenBlob], codec: Codec) -> None:
    cache = FrameCache(64 << 20)
    assert len(frames_of_bases(map(plan_step, targets(cache, sources, [("narrow", 0)])))) == 3
    decode(cache, sources, [("narrow", 1), ("grown", 6), ("grown", 7), ("narrow", 0)])
    assert {codec.decoded[seed("wide", index)] for index in range(5)} == {1}
    assert codec.decoded[seed("base", 6)] == 1
    assert not any(codec.decoded[seed("base", index)] for index in range(6))
    decode(cache, sources, [("grown", 5), ("narrow", 2)])


@pytest.mark.parametrize("name", ["base", "slice"])
def test_ranges(sources: dict[str, OpenBlob], name: str) -> None:
    cache = FrameCache(3 * FRAME_NBYTES)
    raw = RAW[name]
    for offset in (0, 5, FRAME_NBYTES - 3, FRAME_NBYTES, 2 * FRAME_NBYTES + 7, len(raw) - 4, len(raw), len(raw) + 9):
        for nbytes in (0, 1, 6, FRAME_NBYTES, 2 * FRAME_NBYTES + 5):
            assert cache.range(sources[name], offset, nbytes) == raw[offset : offset + nbytes], (offset, nbytes)


def test_what_is_found_and_missed_of_bases_is_counted_for_who_asked(sources: dict[str, OpenBlob]) -> None:
    cache = FrameCache(64 << 20)
    found: list[int] = []
    missed: list[int] = []
    counters = FrameCounters(base_hit=found.append, base_missed=missed.append)
    cache.decode_into(targets(cache, sources, [("tuned", 0), ("other", 0), ("alone", 0), ("slice", 0)]), counters)
    assert (len(found), len(missed)) == (0, 2)
    cache.decode_into(targets(cache, sources, [("tuned", 0), ("tuned", 5)]), counters)
    assert (len(found), len(missed)) == (1, 3)
    cache.decode_into(targets(cache, sources, [("tuned", 0), ("tuned", 4)]))
    assert (len(found), len(missed)) == (1, 3)


def test_what_is_fetched_and_decoded_is_counted_and_so_is_what_fails(
    sources: dict[str, OpenBlob], codec: Codec
) -> None:
    cache = FrameCache(64 << 20)
    told: list[tuple[str, object]] = []
    counters = FrameCounters(
        fetched=lambda _, nbytes: told.append(("fetched", nbytes)),
        decoded=lambda _, nbytes: told.append(("decoded", nbytes)),
        decode_failed=lambda _, why: told.append(("decode failed", why)),
    )
    stored_nbytes = sum(sources[name].stored(0).nbytes for name in ("base", "tuned"))
    cache.decode_into(targets(cache, sources, [("tuned", 0)]), counters)
    assert told == [("fetched", stored_nbytes), ("decoded", 2 * FRAME_NBYTES)]
    told.clear()
    codec.bad[seed("alone", 0)] = PackDamaged("pack", 0, "told to be")
    with pytest.raises(PackDamaged):
        cache.decode(sources["alone"], 0, counters)
    assert told == [("fetched", sources["alone"].stored(0).nbytes), ("decode failed", "damaged")]


# Many threads


class Meeting:
    """Holds up the first who decodes until others wait for it."""

    def __init__(self, cache: FrameCache) -> None:
        self._cache = cache
        self._first = threading.Lock()
        self.go = threading.Event()
        self.arrived = threading.Event()

    def __call__(self) -> None:
        if self._first.acquire(blocking=False):
            self.arrived.set()
            assert self.go.wait(_PATIENCE_S)


def _waiting(cache: FrameCache, count: int) -> bool:
    """Whether so many threads wait for frames that are under way."""
    with cache._lock:
        futures = list(cache._underway.values())
    waiters = [len(future._condition._waiters) for future in futures]  # type: ignore[attr-defined]
    return sum(waiters) >= count


def test_threads_share_the_frames_of_a_base(sources: dict[str, OpenBlob], codec: Codec) -> None:
    cache = FrameCache(256 << 20)
    begin = threading.Barrier(8)

    def work(number: int) -> None:
        begin.wait()
        name = ("tuned", "other", "slice")[number % 3]
        decode(cache, sources, [(name, index) for index in range(len(sources[name].blob.frames))])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert {codec.decoded[seed("base", index)] for index in range(FRAMES)} == {1}
    check_rest(cache)


@pytest.mark.parametrize("error", [PackDamaged("pack", 0, "told to be"), MemoryError("told to"), KeyboardInterrupt()])
def test_who_waits_for_one_who_fails_takes_over(sources: dict[str, OpenBlob], codec: Codec, error: Exception) -> None:
    """The frame of the base was good; what failed was something that only the first had asked for."""
    cache = FrameCache(64 << 20)
    codec.before = meeting = Meeting(cache)
    codec.bad[seed("alone", 1)] = error
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(decode, cache, sources, [("tuned", 2), ("alone", 1)])
        assert meeting.arrived.wait(_PATIENCE_S)
        others = [threads.submit(decode, cache, sources, [(name, 2)]) for name in ("tuned", "other", "slice")]
        others.append(threads.submit(lambda: _same(cache.frame(sources["base"], 2), expected("base", 2))))
        poll(lambda: _waiting(cache, 4))
        meeting.go.set()
        assert type(first.exception(_PATIENCE_S)) is type(error)
        for other in others:
            other.result(_PATIENCE_S)
    assert codec.decoded[seed("base", 2)] == 1
    check_rest(cache)


def _same(found: memoryview, wanted: bytes) -> None:
    assert found == wanted


def test_each_who_needs_a_damaged_base_is_told_and_nobody_else(sources: dict[str, OpenBlob], codec: Codec) -> None:
    cache = FrameCache(64 << 20)
    codec.before = meeting = Meeting(cache)
    codec.bad[seed("base", 2)] = PackDamaged("pack", 0, "told to be")
    with ThreadPoolExecutor(8) as threads:
        asked = [
            [("tuned", 2)],
            [("other", 2), ("other", 3)],
            [("slice", 1)],
            [("slice", 3)],
            [("other", 3)],
            [("alone", 0)],
        ]
        first = threads.submit(decode, cache, sources, asked[0])
        assert meeting.arrived.wait(_PATIENCE_S)
        others: list[Future[None]] = [threads.submit(decode, cache, sources, wanted) for wanted in asked[1:]]
        poll(lambda: _waiting(cache, 2))
        meeting.go.set()
        for one in (first, *others[:2]):
            told = one.exception(_PATIENCE_S)
            assert isinstance(told, PackDamaged)
            assert "frame 2 of blob 1" in str(told)
        for one in others[2:]:
            one.result(_PATIENCE_S)
    check_rest(cache)
    codec.bad.clear()
    decode(cache, sources, all_frames(sources))


@pytest.mark.slow
@pytest.mark.parametrize("budget_nbytes", BUDGETS)
@pytest.mark.parametrize("failing", [False, True])
def test_many_threads_with_sets_that_overlap_never_wait_in_a_circle(
    sources: dict[str, OpenBlob], codec: Codec, budget_nbytes: int, failing: bool
) -> None:
    cache = FrameCache(budget_nbytes)
    frames = all_frames(sources)
    errors: list[Exception] = [PackDamaged("pack", 0, "told to be"), MemoryError("told to"), OSError(5, "told to")]
    told: Counter[type] = Counter()

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(12):
            if failing:
                bad = seed(*chance.choice(frames))
                codec.bad = {bad: chance.choice(errors)}
            wanted = chance.choices(frames, k=chance.randrange(1, 7))
            try:
                if chance.random() < 0.2:
                    name, index = wanted[0]
                    _same(cache.frame(sources[name], index), expected(name, index))
                else:
                    decode(cache, sources, wanted)
            except (PackDamaged, MemoryError, OSError) as error:
                assert "told to" in str(error)
                told[type(error)] += 1

    running = [threading.Thread(target=work, args=[number], daemon=True) for number in range(12)]
    failures: list[object] = []
    hook, threading.excepthook = threading.excepthook, failures.append
    try:
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive(), "threads wait for each other"
    finally:
        threading.excepthook = hook
    assert failures == []
    assert bool(told) == failing
    codec.bad = {}
    check_rest(cache)
    decode(cache, sources, frames)


def test_memory_is_let_go_when_others_need_it(sources: dict[str, OpenBlob]) -> None:
    cache = FrameCache(4 * FRAME_NBYTES)
    decode(cache, sources, [("tuned", index) for index in range(4)])
    assert 2 * FRAME_NBYTES <= cache.nbytes <= 4 * FRAME_NBYTES
    cache.budget.make_room(3 * FRAME_NBYTES)
    assert cache.nbytes == FRAME_NBYTES
    assert sum(cache.cached(IDS["base"], index) is not None for index in range(4)) == 1
    cache.budget.make_room(100 * FRAME_NBYTES)
    assert cache.nbytes == 0
    assert not cache.drop_one()
