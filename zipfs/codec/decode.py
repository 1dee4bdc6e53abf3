"""Owns the way from frames to bytes: a run of them in one native call (see README.md).

Pure: no I/O, no clock.  Any thread may call; the GIL is released once for a whole run, checksums included.  No decoded
byte is vouched for before its checksum was compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from zipfs.codec import _native
from zipfs.codec.frame import HEADER_NBYTES, SEED_MASK, unpack_header
from zipfs.codec.plain import RAW
from zipfs.errors import FrameDamaged

if TYPE_CHECKING:
    from typing_extensions import Buffer


class FrameJob(NamedTuple):
    """A frame to decode; its buffers are contiguous, their item types do not matter.

    `frame` is all of the frame and nothing more, `out` a writable buffer of the raw length, `base` the base's bytes of
    the same range or None, `seed` (taken modulo 2^64) what the encoder was given.
    """

    frame: Buffer
    out: Buffer
    base: Buffer | None
    seed: int


def decode_frames(jobs: Sequence[FrameJob]) -> None:
    """Decode `jobs` in order; the base of a job may be what earlier ones fill, or a part of it.

    The bytes of a job's `out` are neither in its frame nor in its base; codecs that need no base ignore it.  Raises
    FrameDamaged for the first job that is not exactly right: its `position` counts from 0, the jobs before it are
    decoded and checked, and targets from there on may hold rubbish.  A buffer that is read-only or not contiguous is
    the caller's mistake: BufferError, ValueError or TypeError.

    zstd frames, which are no tensors, are unpacked beforehand and copied in the run.
    """
    steps: list[_native.Step] = []
    damage: FrameDamaged | None = None
    for job in jobs:
        try:
            steps.append(_plan(job))
        except FrameDamaged as error:
            damage = error  # to be told once the jobs before it are known to be right
            break
    failed = _native.decode_run(steps)
    if failed is not None:
        position, reason = failed
        raise FrameDamaged(reason, position)
    if damage is not None:
        damage.position = len(steps)
        raise damage


def _plan(job: FrameJob) -> _native.Step:
    frame, out, base, seed = job
    codec, _, raw_nbytes, checksum = unpack_header(frame)
    nbytes = memoryview(out).nbytes
    if raw_nbytes != nbytes:
        raise FrameDamaged(f"holds {raw_nbytes} bytes where {nbytes} were expected")
    if codec.needs_base:
        if base is None:
            raise FrameDamaged("its base is missing")
        base_nbytes = memoryview(base).nbytes
        if base_nbytes != nbytes:
            raise FrameDamaged(f"its base has {base_nbytes} bytes instead of {nbytes}")
    if codec.unpack is None:
        return codec.id, frame, HEADER_NBYTES, base, out, seed & SEED_MASK, checksum
    content = codec.unpack(memoryview(frame).cast("B")[HEADER_NBYTES:], nbytes)
    return RAW.id, content, 0, None, out, seed & SEED_MASK, checksum
