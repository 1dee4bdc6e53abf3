"""Plans the decoding of frames: which frames of bases they need, and which can be decoded in one run. Pure.

What a frame is coded against is a range of its base: mostly the bytes of one frame of the base, as they are. Where two
frames of the base hold it, or it is cast, or the base ends before, it is joined first (`BaseRange.direct` is False).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.frames.policy import Key
from zipfs.store.objects.base_view import Piece, View, pieces


class Form(NamedTuple):
    """A frame as it is stored: `standalone`, or coded against a base."""

    key: Key
    standalone: bool


class Frame(NamedTuple):
    """Frame `number` of a blob."""

    source: OpenBlob
    number: int

    @property
    def key(self) -> Key:
        return self.source.blob.id, self.number

    @property
    def form(self) -> Form:
        return Form(self.key, self.source.base is None)


class Target(NamedTuple):
    """Frame `number` of a blob, to be decoded into `out`, which is writable and of the frame's raw length."""

    source: OpenBlob
    number: int
    out: memoryview

    @property
    def seed(self) -> int:
        return self.source.blob.frame_seed(self.number)


class BaseRange(NamedTuple):
    """What a frame is coded against: pieces of frames of `base`, seen by `view`."""

    base: OpenBlob
    view: View
    pieces: Sequence[Piece]
    direct: bool
    """Whether the only piece is what the frame is coded against, byte for byte."""

    def keys(self) -> list[Key]:
        return [(self.base.blob.id, piece.frame) for piece in self.pieces]


class Step(NamedTuple):
    """The decoding of one frame; `against` is None where it is coded standalone."""

    target: Target
    against: BaseRange | None


def plan_step(target: Target) -> Step:
    """Return what it takes to decode a frame."""
    base, reference = target.source.base, target.source.blob.base
    if base is None or reference is None:
        return Step(target, None)
    view = reference.view
    offset, needed = view.needed(target.number * target.source.blob.step_nbytes, len(target.out))
    found = tuple(pieces(offset, needed, base.blob.step_nbytes))
    return Step(target, BaseRange(base, view, found, len(found) == 1 and view.is_range(needed, len(target.out))))


def frames_of_bases(steps: Iterable[Step]) -> dict[Key, Frame]:
    """Return the frames of bases that the steps need, each once."""
    return {
        (against.base.blob.id, piece.frame): Frame(against.base, piece.frame)
        for _, against in steps
        if against is not None
        for piece in against.pieces
    }


def split(steps: Sequence[Step], present: Container[Key]) -> tuple[list[Step], list[Step]]:
    """Return the steps that one run can take, and those that have to wait for frames of bases.

    Frames in `present` are in memory when the run begins, or decoded earlier in it: the latter can be bases as they
    are, and cannot be joined or cast before the run.
    """
    now: list[Step] = []
    later: list[Step] = []
    for step in steps:
        against = step.against
        ready = against is None or not against.pieces or (against.direct and against.keys()[0] in present)
        (now if ready else later).append(step)
    return now, later
