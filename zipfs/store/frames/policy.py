"""Decides which frames of bases stay in memory. Pure: no locks, no buffers, and no clock but the count of uses.

Models are read from end to end, and most are larger than the memory for their bases: to drop what was not used for the
longest time (LRU) would then drop every frame just before it is needed again. So there are two shares:

- *kept* frames stay while they are used. A frame that was decoded once more comes in for the least recently used of
  them only if that one was not used since the frame's own previous use: what comes back at longer intervals, or at the
  same, stays out. So of a model that is read over and over as much stays as there is room for, and a scan changes
  nothing. This is the rule of LIRS (Jiang and Zhang, 2002).
- *recent* frames are the other ones, dropped in the order of their use: readers of several fine-tunes of one base, a
  little apart, share what is decoded. Their share is small, so that buffers are soon used again; it grows with each
  frame missed that plain LRU would still have, and shrinks with each hit on a kept one that LRU would have dropped (as
  ARC does, Megiddo and Modha 2003), which makes it LRU where nothing else is as good.

Each call takes constant time, spread over the calls. Any thread may call, one at a time.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Final

Key = tuple[int, int]
"""The id of a blob and the number of one of its frames."""

RECENT_NBYTES: Final = 16 << 20
"""The share of the recent frames is never smaller, unless this is more than an eighth of the budget."""

HISTORY_FRAMES: Final = 1 << 18
_TAG_BITS: Final = 16
_TAG_MASK: Final = (1 << _TAG_BITS) - 1
_LRU_FRAMES: Final = 1 << 16


class History:
    """When frames that were dropped had been used last: 8 bytes for each of `frames`, a power of two.

    A table by hash; of two frames that meet in a place the one noted last stays. Whose place it is, 16 more bits of the
    hash tell: one frame in 65,536 that is not known is taken for another.
    """

    def __init__(self, frames: int) -> None:
        self._mask = frames - 1
        self._places = array("Q", bytes(8 * frames))

    def note(self, key: Key, when: int) -> None:
        """Note when a frame was used last; `when` is above 0."""
        hashed = hash(key)
        self._places[hashed & self._mask] = when << _TAG_BITS | hashed >> 40 & _TAG_MASK

    def find(self, key: Key) -> int:
        """Return when a frame was used last; 0 if it is not known."""
        hashed = hash(key)
        found = self._places[hashed & self._mask]
        return found >> _TAG_BITS if found & _TAG_MASK == hashed >> 40 & _TAG_MASK else 0


_Frames = OrderedDict[Key, tuple[int, int]]
"""Sizes and times of the last use, in the order of these."""


class FramePolicy:
    """Says which frames to drop so that the rest keep to `budget_nbytes`, which may be set at any time.

    It remembers `history_frames` (a power of two) that were dropped at 8 bytes each, 2 MiB by default. What it knows of
    the frames in memory, and of those that LRU would have instead (at most 65,536), takes about 500 bytes for each that
    fits into the budget.
    """

    def __init__(
        self, budget_nbytes: int, recent_nbytes: int = RECENT_NBYTES, history_frames: int = HISTORY_FRAMES
    ) -> None:
        self._recent_nbytes_wanted = recent_nbytes
        self._share = 0
        self.budget_nbytes = budget_nbytes
        self._now = 0
        self._recent: _Frames = OrderedDict()
        self._recent_nbytes = 0
        self._kept: _Frames = OrderedDict()
        self._kept_nbytes = 0
        self._history = History(history_frames)
        self._lru: OrderedDict[Key, int] = OrderedDict()
        self._lru_nbytes = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of all frames that were admitted and not dropped."""
        return self._recent_nbytes + self._kept_nbytes

    @property
    def budget_nbytes(self) -> int:
        """Return the limit. If it is set to less than `nbytes`, the next `admit` drops the rest; or call `drop_one`."""
        return self._budget

    @budget_nbytes.setter
    def budget_nbytes(self, nbytes: int) -> None:
        self._budget = nbytes
        self._least_share = min(self._recent_nbytes_wanted, nbytes // 8)
        self._share = max(self._least_share, min(self._share, nbytes))

    def used(self, key: Key) -> None:
        """Note that a frame in memory was asked for."""
        frames = self._kept
        entry = frames.get(key)
        if entry is None:
            frames = self._recent
            entry = frames.get(key)
            if entry is None:
                return
        self._now += 1
        nbytes = entry[0]
        frames[key] = nbytes, self._now
        frames.move_to_end(key)
        if not self._lru_had(key, nbytes) and frames is self._kept:
            self._share = max(self._least_share, self._share - nbytes)

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        """Note that a frame was decoded; return what to drop, which may be the frame itself."""
        kept, recent = self._kept, self._recent
        if key in kept or key in recent:
            self.used(key)
            return []
        self._now += 1
        if self._lru_had(key, nbytes):
            self._share = min(self._budget, self._share + nbytes)
        dropped: list[Key] = []
        room = self._budget - self._share - nbytes
        if self._kept_nbytes > room >= 0:
            previous_use = self._history.find(key)
            while self._kept_nbytes > room and kept and next(iter(kept.values()))[1] < previous_use:
                dropped.append(self._drop_kept())
        if self._kept_nbytes <= room:
            kept[key] = nbytes, self._now
            self._kept_nbytes += nbytes
        else:
            recent[key] = nbytes, self._now
            self._recent_nbytes += nbytes
        while self._recent_nbytes > self._share:
            dropped.append(self._drop_recent())
        while self._kept_nbytes + self._recent_nbytes > self._budget:
            dropped.append(self._drop_kept() if kept else self._drop_recent())
        return dropped

    def drop_one(self) -> Key | None:
        """Return the frame to drop because somebody else needs memory; None if there is none.

        A recent one if there is any: whoever makes room for a frame before it is decoded and admitted takes the place
        that it would have been given anyway.
        """
        if self._recent:
            return self._drop_recent()
        return self._drop_kept() if self._kept else None

    def _drop_recent(self) -> Key:
        key, (nbytes, last_use) = self._recent.popitem(last=False)
        self._recent_nbytes -= nbytes
        self._history.note(key, last_use)
        return key

    def _drop_kept(self) -> Key:
        key, (nbytes, last_use) = self._kept.popitem(last=False)
        self._kept_nbytes -= nbytes
        self._history.note(key, last_use)
        return key

    def _lru_had(self, key: Key, nbytes: int) -> bool:
        """Return whether LRU with the same budget would have the frame that is asked for."""
        lru = self._lru
        if key in lru:
            lru.move_to_end(key)
            return True
        lru[key] = nbytes
        self._lru_nbytes += nbytes
        while self._lru_nbytes > self._budget or len(lru) > _LRU_FRAMES:
            self._lru_nbytes -= lru.popitem(last=False)[1]
        return False
