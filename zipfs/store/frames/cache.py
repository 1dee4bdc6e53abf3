"""Owns decoded frames: those of bases are kept in memory up to a budget, for they serve many, and so do those of plain
bytes that windows need in part.

Such a frame is decoded once however many threads ask for it at the same time. Whoever needs several claims them in
one step, and decodes what it has claimed before it waits for what others have: so waits only ever go from later claims
to earlier ones, and no two threads wait for each other. A blob may be open in two forms, the one that it had and the
one that it was given since, and what was a base may be a member in the other one: so a claim is for a frame in a form,
coded standalone or not, while decoded bytes are the same whatever the form. Any thread may call.

Frames are handed out as leases (`buffers`): dropped here, their memory is used again once nobody looks at them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future

from zipfs.codec import FRAME_NBYTES
from zipfs.store.frames.budget import Budget
from zipfs.store.frames.buffers import KEPT_NBYTES, BufferPool, buffer_nbytes
from zipfs.store.frames.counters import NOT_COUNTED, FrameCounters
from zipfs.store.frames.decode import decode_run
from zipfs.store.frames.decode_plan import Form, Frame, Step, Target, frames_of_bases, plan_step, split
from zipfs.store.frames.fetch import fetch_frames
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.frames.policy import FramePolicy, Key
from zipfs.store.objects.base_view import View, pieces
from zipfs.store.objects.values import BlobId


class FrameCache:
    """Decodes frames, and keeps those of bases within a share of the budget.

    Whoever counts hands its counters to each call.
    """

    def __init__(self, budget_nbytes: int) -> None:
        self.budget = Budget(budget_nbytes)
        self.buffers = BufferPool(KEPT_NBYTES)
        self._lock = threading.Lock()
        self._frames: dict[Key, memoryview] = {}
        self._policy = FramePolicy(budget_nbytes)
        self._underway: dict[Form, Future[memoryview]] = {}
        self.budget.join(self)

    def close(self) -> None:
        """Drop all frames; nothing may be decoded any more."""
        while self.drop_one():
            pass
        self.budget.leave(self)

    @property
    def nbytes(self) -> int:
        return self._policy.nbytes

    @property
    def floor_nbytes(self) -> int:
        return self.budget.nbytes - self.budget.nbytes // 4

    def drop_one(self) -> bool:
        """Drop the frame that is least worth keeping; return whether there was one."""
        with self._lock:
            key = self._policy.drop_one()
            if key is None:
                return False
            del self._frames[key]
        return True

    def cached(self, blob_id: BlobId, number: int) -> memoryview | None:
        """Return a frame if it is in memory. Never blocks for long."""
        with self._lock:
            return self._find((blob_id, number))

    def _find(self, key: Key) -> memoryview | None:
        frame = self._frames.get(key)
        if frame is not None:
            self._policy.used(key)
        return frame

    def frame(self, source: OpenBlob, number: int, counters: FrameCounters = NOT_COUNTED) -> memoryview:
        """Return a decoded frame, read-only, and keep it for the next who asks. Raises PackDamaged."""
        key, form = Frame(source, number).key, Frame(source, number).form
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
            frame = self.decode(source, number, counters)
        except BaseException:
            self._give_up([form])
            raise
        return self._publish(form, frame)

    def decode(self, source: OpenBlob, number: int, counters: FrameCounters = NOT_COUNTED) -> memoryview:
        """Return a frame decoded from its pack, read-only, whether or not it is in memory. Raises PackDamaged."""
        target = self._target(Frame(source, number))
        self.decode_into([target], counters)
        return target.out.toreadonly()

    def view(self, base: OpenBlob, view: View, start: int, nbytes: int) -> memoryview:
        """Return bytes [start, start + nbytes) of a view of `base`; copied only where they are cast or end early."""
        offset, needed = view.needed(start, nbytes)
        if view.is_range(needed, nbytes):
            return self.range(base, offset, nbytes)
        out = self.buffers.take(nbytes)
        found = pieces(offset, needed, base.blob.step_nbytes)
        view.fill((self.frame(base, piece.frame)[piece.cut] for piece in found), out)
        return out.toreadonly()

    def range(self, source: OpenBlob, offset: int, nbytes: int) -> memoryview:
        """Return bytes [offset, offset + nbytes) of a blob, cut off at its end; copied only across a border of frames.

        Raises PackDamaged.
        """
        nbytes = max(0, min(nbytes, source.blob.nbytes - offset))
        step_nbytes = source.blob.step_nbytes
        first, start = divmod(offset, step_nbytes)
        if start + nbytes <= step_nbytes:
            return self.frame(source, first)[start : start + nbytes] if nbytes else memoryview(b"")
        out = self.buffers.take(nbytes)
        at = 0
        while at < nbytes:
            number, start = divmod(offset + at, step_nbytes)
            piece = self.frame(source, number)[start : start + nbytes - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
        return out.toreadonly()

    def decode_into(self, targets: Sequence[Target], counters: FrameCounters = NOT_COUNTED) -> None:
        """Read frames from their packs, in few reads, and decode them. Raises PackDamaged for a bad one.

        Frames of bases come from memory, or are decoded on the way and kept there.
        """
        steps = [plan_step(target) for target in targets]
        needed = frames_of_bases(steps)
        frames, claimed = self._claim(needed)
        taken = {form.key for form in claimed}
        for key in needed:
            (counters.base_missed if key in taken else counters.base_hit)(FRAME_NBYTES)
        try:
            self.budget.make_room(len(claimed) * FRAME_NBYTES)
            own = [self._target(needed[form.key]) for form in claimed]
            frames.update((form.key, target.out) for form, target in zip(claimed, own, strict=True))
            now, later = split(steps, frames)
            self._run([*(Step(target, None) for target in own), *now], frames, counters)
        except BaseException:
            self._give_up(claimed)
            raise
        for form in claimed:
            self._publish(form, frames[form.key])
        if later:
            for key, base in needed.items():
                if key not in frames:
                    frames[key] = self.frame(base.source, base.number, counters)
            self._run(later, frames, counters)

    def _target(self, frame: Frame) -> Target:
        return Target(*frame, self.buffers.take(frame.source.blob.frame_nbytes(frame.number)))

    def _run(self, steps: Sequence[Step], frames: Mapping[Key, memoryview], counters: FrameCounters) -> None:
        contents = fetch_frames([step.target for step in steps], counters)
        decode_run(steps, contents, frames, self.buffers, counters)

    def _claim(self, needed: Mapping[Key, Frame]) -> tuple[dict[Key, memoryview], list[Form]]:
        """Return those of the needed frames that are in memory, and claim those that nobody decodes yet.

        What is in neither is being decoded by another thread.
        """
        ready: dict[Key, memoryview] = {}
        claimed: list[Form] = []
        with self._lock:
            for key, base in needed.items():
                frame = self._find(key)
                form = base.form
                if frame is not None:
                    ready[key] = frame
                elif form not in self._underway:
                    self._underway[form] = Future()
                    claimed.append(form)
        return ready, claimed

    def _publish(self, form: Form, frame: memoryview) -> memoryview:
        """Keep a decoded frame as far as the policy wants it, and hand it to whoever waits for it."""
        frame = frame.toreadonly()
        others_nbytes = self.budget.used_nbytes - self.nbytes
        with self._lock:
            future = self._underway.pop(form)
            if form.key not in self._frames:  # else it was decoded from its other form meanwhile
                self._frames[form.key] = frame
                self._policy.budget_nbytes = max(self.budget.nbytes - others_nbytes, self.floor_nbytes)
                for dropped in self._policy.admit(form.key, buffer_nbytes(len(frame))):
                    del self._frames[dropped]
        future.set_result(frame)
        self.budget.make_room(0)
        return frame

    def _give_up(self, forms: Iterable[Form]) -> None:
        """Have whoever waits try for itself, and find out what is wrong with its own frame."""
        for form in forms:
            with self._lock:
                future = self._underway.pop(form)
            future.cancel()


def _outcome(future: Future[memoryview]) -> memoryview | None:
    """Return the frame that another thread decodes, or None if it gave up."""
    try:
        return future.result()
    except CancelledError:
        return None
