"""Decoding one slab, and taking ranges out of decoded ones. Any thread may call; nothing here waits for a slab."""

from __future__ import annotations

from collections.abc import Sequence

from zipfs.errors import Damaged
from zipfs.reading.windows import Slab
from zipfs.store.frames.buffers import BufferPool
from zipfs.store.frames.cache import FrameCache, Target


def decode_slab(frames: FrameCache, slab: Slab) -> memoryview:
    """All bytes of a slab, read-only. Raises Damaged."""
    buffers = frames.buffers
    frames.budget.make_room(slab.nbytes)
    out = buffers.take(slab.nbytes)
    targets: list[Target] = []
    parts: list[tuple[memoryview, memoryview]] = []
    for number in range(slab.first, slab.stop):
        cell = slab.file.cells[number]
        source = slab.file.blobs[cell.blob_id]
        place = out[cell.offset - slab.offset :][: cell.nbytes]
        frame_nbytes = source.blob.frame_nbytes(cell.index)
        if cell.start + cell.nbytes > frame_nbytes:
            raise Damaged(f"blob {cell.blob_id}", f"an extent goes beyond its end, in frame {cell.index}")
        frame = frames.cached(cell.blob_id, cell.index)
        if frame is None and cell.nbytes == frame_nbytes:
            targets.append(Target(source, cell.index, place))
            continue
        if frame is None:
            frame = buffers.take(frame_nbytes)
            buffers.keep(frame)
            targets.append(Target(source, cell.index, frame))
        parts.append((place, frame[cell.start : cell.start + cell.nbytes]))
    frames.decode_into(targets)
    for place, part in parts:
        place[:] = part
    return out.toreadonly()


def join(buffers: BufferPool, slabs: Sequence[Slab], offset: int, nbytes: int) -> memoryview:
    """A range out of the decoded slabs that hold it; copied only where there are several."""
    parts = []
    for slab in slabs:
        start = max(offset - slab.offset, 0)
        parts.append(slab.view()[start : offset + nbytes - slab.offset])
    if len(parts) == 1:
        return parts[0]
    joined = buffers.take(nbytes)
    buffers.keep(joined)
    at = 0
    for part in parts:
        joined[at : at + len(part)] = part
        at += len(part)
    return joined.toreadonly()


def bare(error: BaseException) -> BaseException:
    """The error without the places where it was raised: they refer to all that was at hand there, memory included."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
