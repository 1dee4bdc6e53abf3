"""Decodes fetched frames in one run, given the frames of bases that they need. Any thread may call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from zipfs.codec import FrameJob, decode_frames
from zipfs.errors import FrameDamaged, PackDamaged
from zipfs.store.frames.buffers import BufferPool
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.decode_plan import BaseRange, Step
from zipfs.store.frames.policy import Key


def decode_run(
    steps: Sequence[Step],
    contents: Sequence[memoryview],
    frames: Mapping[Key, memoryview],
    buffers: BufferPool,
    counters: FrameCounters,
) -> None:
    """Decode each step's content into its target. Raises PackDamaged for the first frame that is damaged.

    `frames` are those of bases; one that is used as it is may be the target of an earlier step.
    """
    began_s = time.perf_counter()
    jobs = [
        FrameJob(content, step.target.out, _base_bytes(step, frames, buffers), step.target.seed)
        for step, content in zip(steps, contents, strict=True)
    ]
    try:
        decode_frames(jobs)
    except FrameDamaged as error:
        counters.decode_failed(time.perf_counter() - began_s, "damaged")
        source, number, _ = steps[error.position].target
        where = source.stored(number)
        reason = f"frame {number} of blob {source.blob.id}: {error.args[0]}"
        raise PackDamaged(where.pack.where, where.offset, reason) from error
    counters.decoded(time.perf_counter() - began_s, sum(len(step.target.out) for step in steps))


def _base_bytes(step: Step, frames: Mapping[Key, memoryview], buffers: BufferPool) -> memoryview | None:
    """Return what a frame is coded against: as it is in one frame of the base, or else joined."""
    against = step.against
    if against is None:
        return None
    parts = _parts(against, frames)
    if against.direct:
        return parts[0]
    joined = buffers.take(len(step.target.out))
    against.view.fill(parts, joined)
    return joined


def _parts(against: BaseRange, frames: Mapping[Key, memoryview]) -> list[memoryview]:
    return [frames[key][piece.cut] for key, piece in zip(against.keys(), against.pieces, strict=True)]
