"""Decodes a window, and takes ranges out of decoded ones. Any thread may call; nothing here waits for a window."""

from __future__ import annotations

from collections.abc import Sequence

from zipfs.errors import Damaged
from zipfs.reading.windows import Window
from zipfs.store.frames.buffers import BufferPool
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.decode_plan import Target
from zipfs.store.frames.policy import Key


def decode_window(frames: FrameCache, window: Window, counters: FrameCounters) -> memoryview:
    """Return all bytes of a window, read-only. Raises Damaged.

    Frames of which the file has all bytes are decoded in place; of others the part is copied. Of plain bytes, where
    other windows are likely to need other parts, such a frame is kept in memory.
    """
    frames.budget.make_room(window.nbytes)
    out = frames.buffers.take(window.nbytes)
    targets: list[Target] = []
    copies: list[tuple[memoryview, memoryview]] = []
    in_part: dict[Key, memoryview] = {}
    for position in range(window.first, window.stop):
        offset, nbytes, blob_id, number, start = window.file.slices[position]
        source = window.file.blobs[blob_id]
        place = out[offset - window.offset :][:nbytes]
        frame_nbytes = source.blob.frame_nbytes(number)
        if start + nbytes > frame_nbytes:
            raise Damaged(f"blob {blob_id}", f"an extent goes beyond its end, in frame {number}")
        frame = in_part.get((blob_id, number))
        if frame is None:
            frame = frames.cached(blob_id, number)
        if frame is None and nbytes == frame_nbytes:
            targets.append(Target(source, number, place))
            continue
        if frame is None and not source.blob.dtype:
            frame = frames.frame(source, number, counters)
        elif frame is None:
            frame = frames.buffers.take(frame_nbytes)
            targets.append(Target(source, number, frame))
        in_part[blob_id, number] = frame
        copies.append((place, frame[start : start + nbytes]))
    frames.decode_into(targets, counters)
    for place, part in copies:
        place[:] = part
    return out.toreadonly()


def join(buffers: BufferPool, windows: Sequence[Window], offset: int, nbytes: int) -> memoryview:
    """Return a range out of the decoded windows that hold it; copied only where there are several."""
    parts = []
    for window in windows:
        start = max(offset - window.offset, 0)
        parts.append(window.view()[start : offset + nbytes - window.offset])
    if len(parts) == 1:
        return parts[0]
    joined = buffers.take(nbytes)
    at = 0
    for part in parts:
        joined[at : at + len(part)] = part
        at += len(part)
    return joined.toreadonly()


def bare(error: BaseException) -> BaseException:
    """Return the error without the places where it was raised: they refer to all that was at hand there, memory too."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
