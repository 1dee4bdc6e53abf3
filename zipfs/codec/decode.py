"""Owns the way from frames to bytes: a run of them in one native call, then every checksum (see README.md).

Pure: no I/O, no clock.  Any thread may call; the GIL is released once for all frames between two zstd frames, and while
a checksum is made.  No decoded byte is vouched for before its checksum was compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from zipfs.codec import _native
from zipfs.codec.contract import Codec
from zipfs.codec.frame import HEADER_NBYTES, SEED_MASK, unpack_header
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

    No two jobs may share bytes of `out`, and none may have them in common with its own frame or base.  Codecs that need
    no base ignore it.  Raises FrameDamaged for the first job that is not exactly right: its `position` counts from 0,
    the jobs before it are decoded and checked, and targets from there on may hold rubbish.  A buffer that is read-only
    or not contiguous is the caller's mistake: BufferError, ValueError or TypeError.
    """
    done = 0
    while done < len(jobs):
        done += _decode_run(jobs, done)
        if done < len(jobs):
            _decode_alone(jobs[done], done)
            done += 1


def _decode_run(jobs: Sequence[FrameJob], first: int) -> int:
    """Decode the jobs from `first` on that native codecs can; their number."""
    steps: list[_native.Step] = []
    checksums: list[int] = []
    for job in islice(jobs, first, None):
        try:
            codec, checksum = _check(job)
        except FrameDamaged:
            break  # told by _decode_alone, once the jobs before it are known to be right
        if codec.decode is not None:
            break
        steps.append((codec.id, job.frame, job.base, job.out))
        checksums.append(checksum)
    failed = _native.decode_run(steps, HEADER_NBYTES) if steps else None
    decoded = len(steps) if failed is None else failed[0]
    for position, checksum in enumerate(checksums[:decoded], first):
        _compare(jobs[position], checksum, position)
    if failed is not None:
        raise FrameDamaged(failed[1], first + decoded)
    return decoded


def _decode_alone(job: FrameJob, position: int) -> None:
    try:
        codec, checksum = _check(job)
        assert codec.decode is not None
        codec.decode(memoryview(job.frame).cast("B")[HEADER_NBYTES:], memoryview(job.out).cast("B"))
    except FrameDamaged as error:
        raise FrameDamaged(error.args[0], position) from error
    _compare(job, checksum, position)


def _check(job: FrameJob) -> tuple[Codec, int]:
    """Codec and checksum by the header of a job whose lengths fit; FrameDamaged if they do not."""
    codec, _, raw_nbytes, checksum = unpack_header(job.frame)
    nbytes = memoryview(job.out).nbytes
    if raw_nbytes != nbytes:
        raise FrameDamaged(f"holds {raw_nbytes} bytes where {nbytes} were expected")
    if codec.needs_base:
        if job.base is None:
            raise FrameDamaged("its base is missing")
        base_nbytes = memoryview(job.base).nbytes
        if base_nbytes != nbytes:
            raise FrameDamaged(f"its base has {base_nbytes} bytes instead of {nbytes}")
    return codec, checksum


def _compare(job: FrameJob, checksum: int, position: int) -> None:
    if xxhash.xxh3_64_intdigest(job.out, job.seed & SEED_MASK) != checksum:
        raise FrameDamaged("decoded bytes do not match their checksum", position)
