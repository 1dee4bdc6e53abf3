"""Frames of blobs, read and decoded; those of bases are kept in memory up to a budget, for they serve many.

A base's frame is decoded once however many threads ask for it at the same time. Whoever needs several claims them in
one step, and decodes what it has claimed before it waits for what others have: so waits only ever go from later claims
to earlier ones, and no two threads wait for each other. A blob may be open in two forms, the one that it had and the
one that it was given since, and what was a base may be a member in the other one: so a claim is for a frame in a form,
coded alone or not, while decoded bytes are the same whatever the form. Any thread may call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from zipfs.codec import FRAME_NBYTES, FrameJob, decode_frames
from zipfs.errors import CatalogDamaged, FrameDamaged, PackDamaged
from zipfs.store.frames.budget import Budget
from zipfs.store.frames.buffers import BufferPool, buffer_nbytes
from zipfs.store.frames.policy import FramePolicy, Key
from zipfs.store.objects.base_view import View, check_view, pieces
from zipfs.store.objects.values import Blob, BlobId, PackName
from zipfs.store.packs.file import PackFile
from zipfs.store.packs.ranges import Stored, fetch


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob, its base, and the packs that hold them, open: readable whatever is deleted or moved meanwhile."""

    blob: Blob
    pack: PackFile
    base: OpenBlob | None
    ends: npt.NDArray[np.int64] = field(repr=False)
    """Where in the pack each frame ends."""

    def stored(self, index: int) -> Stored:
        """Where frame `index` is."""
        end, nbytes = int(self.ends[index]), int(self.blob.frames[index])
        return Stored(self.pack, end - nbytes, nbytes)


def opened(blob: Blob, pack: PackFile, base: OpenBlob | None) -> OpenBlob:
    """A blob in a pack that is open already."""
    return OpenBlob(blob, pack, base, blob.pack_offset + np.cumsum(blob.frames, dtype=np.int64))


def open_blob(open_pack: Callable[[PackName], PackFile], blob: Blob, look_up: Callable[[BlobId], Blob]) -> OpenBlob:
    """Raises FileNotFoundError where a pack is gone (then `blob` is out of date: look it up again), and CatalogDamaged
    for a base that cannot be one.
    """
    base = None
    if blob.base is not None:
        of = look_up(blob.base.blob_id)
        check_view(blob.id, blob.base.view, of.id, of.nbytes, base_has_base=of.base is not None)
        base = opened(of, open_pack(of.pack), None)
    return opened(blob, open_pack(blob.pack), base)


class OpenBlobs(Mapping[BlobId, OpenBlob]):
    """Blobs whose packs are open already, and those of their bases. Each is made when it is first asked for, and raises
    CatalogDamaged then. Any thread may call.
    """

    def __init__(self, blobs: Mapping[BlobId, Blob], packs: Mapping[PackName, PackFile]) -> None:
        self._blobs = blobs
        self._packs = packs
        self._made: dict[BlobId, OpenBlob] = {}

    def __getitem__(self, blob_id: BlobId) -> OpenBlob:
        found = self._made.get(blob_id)
        if found is None:
            found = self._made[blob_id] = open_blob(self._pack, self._look_up(blob_id), self._look_up)
        return found

    def __contains__(self, blob_id: object) -> bool:
        return blob_id in self._blobs

    def __iter__(self) -> Iterator[BlobId]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def _look_up(self, blob_id: BlobId) -> Blob:
        if blob_id not in self._blobs:
            raise CatalogDamaged(f"blob {blob_id} is missing")
        return self._blobs[blob_id]

    def _pack(self, name: PackName) -> PackFile:
        return self._packs[name]


class Frame(NamedTuple):
    """Frame `number` of a blob."""

    source: OpenBlob
    number: int


class Target(NamedTuple):
    """Frame `number` of a blob, to be decoded into `out`, which is writable and of the frame's raw length."""

    source: OpenBlob
    number: int
    out: memoryview

    @property
    def seed(self) -> int:
        return self.source.blob.frame_seed(self.number)


class _Form(NamedTuple):
    """A frame as it is stored: `alone`, or coded against a base."""

    key: Key
    alone: bool


def _ignore(*_: object) -> None:
    return


@dataclass(slots=True)
class Watch:
    """Told of what is done: seconds and bytes, or bytes. Called by any thread, and has to be quick."""

    fetched: Callable[[float, int], object] = _ignore
    decoded: Callable[[float, int], object] = _ignore
    base_found: Callable[[int], object] = _ignore
    base_missed: Callable[[int], object] = _ignore
    fetch_failed: Callable[[float, str], object] = _ignore
    decode_failed: Callable[[float, str], object] = _ignore
    """Likewise; with a word for the reason."""


UNWATCHED: Final = Watch()


class FrameCache:
    """Decodes frames, and keeps those of bases within a share of the budget."""

    def __init__(self, budget_nbytes: int) -> None:
        self.budget = Budget(budget_nbytes)
        self.buffers = BufferPool()
        self.watch = UNWATCHED
        self._lock = threading.Lock()
        self._frames: dict[Key, memoryview] = {}
        self._policy = FramePolicy(budget_nbytes)
        self._underway: dict[_Form, Future[memoryview]] = {}
        self.budget.join(self)

    @property
    def nbytes(self) -> int:
        return self._policy.nbytes

    @property
    def floor_nbytes(self) -> int:
        return self.budget.nbytes - self.budget.nbytes // 4

    def drop_one(self) -> bool:
        """Forget the frame that is least worth keeping, if there is one."""
        with self._lock:
            key = self._policy.drop_one()
            if key is None:
                return False
            self.buffers.keep(self._frames.pop(key))
        return True

    def cached(self, blob_id: BlobId, index: int) -> memoryview | None:
        """Frame `index` if it is in memory; never blocks for long."""
        with self._lock:
            return self._find((blob_id, index))

    def _find(self, key: Key) -> memoryview | None:
        frame = self._frames.get(key)
        if frame is not None:
            self._policy.used(key)
        return frame

    def frame(self, source: OpenBlob, index: int) -> memoryview:
        """Decoded bytes of frame `index`, read-only, kept for the next who asks. Raises PackDamaged."""
        key = (source.blob.id, index)
        form = _form(Frame(source, index))
        while True:
            with self._lock:
                frame = self._find(key)
                if frame is not None:
                    return frame
                mine: Future[memoryview] = Future()
                underway = self._underway.setdefault(form, mine)
            if underway is mine:
                break
            if (frame := _outcome(underway)) is not None:
                return frame
        try:
            frame = self.decode(source, index)
        except BaseException:
            self._give_up([form])
            raise
        return self._publish(form, frame)

    def decode(self, source: OpenBlob, index: int) -> memoryview:
        """The same, read from the pack even if the frame is in memory; it is not kept in the cache."""
        out = self.buffers.take(source.blob.frame_nbytes(index))
        self.decode_into([Target(source, index, out)])
        return out.toreadonly()

    def view(self, base: OpenBlob, view: View, start: int, nbytes: int) -> memoryview:
        """Bytes [start, start + nbytes) of a view of `base`; copied only where they are cast or end early."""
        offset, needed = view.needed(start, nbytes)
        if view.is_range(needed, nbytes):
            return self.range(base, offset, nbytes)
        out = self.buffers.take(nbytes)
        self.buffers.keep(out)
        view.fill((self.frame(base, piece.frame)[piece.cut] for piece in pieces(offset, needed)), out)
        return out.toreadonly()

    def range(self, source: OpenBlob, offset: int, nbytes: int) -> memoryview:
        """Bytes [offset, offset + nbytes) of a blob, cut off at its end; copied only across a border of frames."""
        nbytes = max(0, min(nbytes, source.blob.nbytes - offset))
        first, start = divmod(offset, FRAME_NBYTES)
        if start + nbytes <= FRAME_NBYTES:
            return self.frame(source, first)[start : start + nbytes] if nbytes else memoryview(b"")
        out = self.buffers.take(nbytes)
        self.buffers.keep(out)
        at = 0
        while at < nbytes:
            index, start = divmod(offset + at, FRAME_NBYTES)
            piece = self.frame(source, index)[start : start + nbytes - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
        return out.toreadonly()

    def decode_into(self, targets: Sequence[Target]) -> None:
        """Read frames from their packs, in few reads, and decode them. Raises PackDamaged for a bad one.

        Frames of bases come from memory, or are decoded on the way and kept there.
        """
        needed = {_key(base): base for target in targets for base in base_frames(target)}
        frames, claimed = self._claim(needed)
        taken = {form.key for form in claimed}
        for key in needed:
            (self.watch.base_missed if key in taken else self.watch.base_found)(FRAME_NBYTES)
        try:
            self.budget.make_room(len(claimed) * FRAME_NBYTES)
            own = [self._target(needed[form.key]) for form in claimed]
            frames.update((form.key, target.out) for form, target in zip(claimed, own, strict=True))
            now, later = _split(targets, frames)
            self._run([*own, *now], frames)
        except BaseException:
            self._give_up(claimed)
            raise
        for form in claimed:
            self._publish(form, frames[form.key])
        if later:
            for key, base in needed.items():
                if key not in frames:
                    frames[key] = self.frame(base.source, base.number)
            self._run(later, frames)

    def _target(self, frame: Frame) -> Target:
        return Target(*frame, self.buffers.take(frame.source.blob.frame_nbytes(frame.number)))

    def _run(self, targets: Sequence[Target], frames: Mapping[Key, memoryview]) -> None:
        """Decode, given the frames of bases that are needed; a base's frame may come earlier in the same run."""
        began_s = time.perf_counter()
        stored = [target.source.stored(target.number) for target in targets]
        try:
            contents = fetch(stored, [target.out for target in targets])
        except PackDamaged:
            self.watch.fetch_failed(time.perf_counter() - began_s, "damaged")
            raise
        fetched_s = time.perf_counter()
        jobs = [
            FrameJob(content, target.out, self._base_bytes(target, frames), target.seed)
            for target, content in zip(targets, contents, strict=True)
        ]
        try:
            decode_frames(jobs)
        except FrameDamaged as error:
            self.watch.decode_failed(time.perf_counter() - fetched_s, "damaged")
            bad, where = targets[error.position], stored[error.position]
            reason = f"frame {bad.number} of blob {bad.source.blob.id}: {error.args[0]}"
            raise PackDamaged(where.pack.where, where.offset, reason) from error
        self.watch.fetched(fetched_s - began_s, sum(where.nbytes for where in stored))
        self.watch.decoded(time.perf_counter() - fetched_s, sum(len(target.out) for target in targets))

    def _base_bytes(self, target: Target, frames: Mapping[Key, memoryview]) -> memoryview | None:
        """What a frame is coded against: the base's bytes as they are where one frame of the base holds them all."""
        base, reference = target.source.base, target.source.blob.base
        if base is None or reference is None:
            return None
        offset, needed = _needed(target, reference.view)
        parts = [frames[base.blob.id, piece.frame][piece.cut] for piece in pieces(offset, needed)]
        if len(parts) == 1 and reference.view.is_range(needed, len(target.out)):
            return parts[0]
        joined = self.buffers.take(len(target.out))
        self.buffers.keep(joined)
        reference.view.fill(parts, joined)
        return joined

    def _claim(self, needed: Mapping[Key, Frame]) -> tuple[dict[Key, memoryview], list[_Form]]:
        """Of the frames named, those in memory, and those that the caller is to decode now.

        What is in neither is being decoded by another thread.
        """
        ready: dict[Key, memoryview] = {}
        claimed: list[_Form] = []
        with self._lock:
            for key, base in needed.items():
                frame = self._find(key)
                form = _form(base)
                if frame is not None:
                    ready[key] = frame
                elif form not in self._underway:
                    self._underway[form] = Future()
                    claimed.append(form)
        return ready, claimed

    def _publish(self, form: _Form, frame: memoryview) -> memoryview:
        frame = frame.toreadonly()
        others_nbytes = self.budget.used_nbytes - self.nbytes
        with self._lock:
            future = self._underway.pop(form)
            if form.key not in self._frames:  # else it was decoded from its other form meanwhile
                self._frames[form.key] = frame
                self._policy.budget_nbytes = max(self.budget.nbytes - others_nbytes, self.floor_nbytes)
                for dropped in self._policy.admit(form.key, buffer_nbytes(len(frame))):
                    self.buffers.keep(self._frames.pop(dropped))
        future.set_result(frame)
        self.budget.make_room(0)
        return frame

    def _give_up(self, forms: Iterable[_Form]) -> None:
        """Whoever waits tries for itself, and finds out what is wrong with its own frame."""
        for form in forms:
            with self._lock:
                future = self._underway.pop(form)
            future.cancel()


def base_frames(target: Target) -> list[Frame]:
    """The frames of the base that hold what a frame is coded against: one or two, more only where they are cast."""
    base, reference = target.source.base, target.source.blob.base
    if base is None or reference is None:
        return []
    return [Frame(base, piece.frame) for piece in pieces(*_needed(target, reference.view))]


def _needed(target: Target, view: View) -> tuple[int, int]:
    return view.needed(target.number * FRAME_NBYTES, len(target.out))


def _key(frame: Frame) -> Key:
    return frame.source.blob.id, frame.number


def _form(frame: Frame) -> _Form:
    return _Form(_key(frame), frame.source.base is None)


def _split(targets: Sequence[Target], frames: Mapping[Key, memoryview]) -> tuple[list[Target], list[Target]]:
    """What can be decoded with `frames`, whose content may come in the same run; and what cannot.

    What is joined or cast before it can be a base must be there before.
    """
    now: list[Target] = []
    later: list[Target] = []
    for target in targets:
        bases, reference = base_frames(target), target.source.blob.base
        direct = not bases or (len(bases) == 1 and _key(bases[0]) in frames)
        if reference is not None and bases:
            _, needed = _needed(target, reference.view)
            direct = direct and reference.view.is_range(needed, len(target.out))
        (now if direct else later).append(target)
    return now, later


def _outcome(future: Future[memoryview]) -> memoryview | None:
    """The frame that another thread decodes, or None if it gave up."""
    try:
        return future.result()
    except CancelledError:
        return None
