"""Owns what is told of the work on frames to whoever counts it. Knows no counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


def _ignore(*_: object) -> None:
    return


@dataclass(frozen=True, slots=True)
class FrameCounters:
    """What is called for the one who asked for frames. Any thread may call these, and each has to be quick."""

    fetched: Callable[[float, int], object] = _ignore
    """Frames were read from packs: seconds, stored bytes."""
    decoded: Callable[[float, int], object] = _ignore
    """Frames were decoded: seconds, raw bytes."""
    base_hit: Callable[[int], object] = _ignore
    """A frame of a base was in memory: its bytes."""
    base_missed: Callable[[int], object] = _ignore
    """A frame of a base had to be fetched and decoded: its bytes."""
    fetch_failed: Callable[[float, str], object] = _ignore
    """Reading from packs failed: seconds, a word for the reason."""
    decode_failed: Callable[[float, str], object] = _ignore
    """Decoding failed: seconds, a word for the reason."""


NOT_COUNTED: Final = FrameCounters()
