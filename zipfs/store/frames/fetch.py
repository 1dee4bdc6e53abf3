"""Fetches the stored bytes of frames from packs. Any thread may call."""

from __future__ import annotations

import time
from collections.abc import Sequence

from zipfs.errors import PackDamaged
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.decode_plan import Target
from zipfs.store.packs.ranges import fetch


def fetch_frames(targets: Sequence[Target], counters: FrameCounters) -> list[memoryview]:
    """Return the stored bytes of frames, until the calling thread fetches again. Raises PackDamaged."""
    began_s = time.perf_counter()
    stored = [target.source.stored(target.number) for target in targets]
    try:
        contents = fetch(stored, [target.out for target in targets])
    except PackDamaged:
        counters.fetch_failed(time.perf_counter() - began_s, "damaged")
        raise
    counters.fetched(time.perf_counter() - began_s, sum(where.nbytes for where in stored))
    return contents
