"""Which frames of bases stay in memory. Pure: no locks, no buffers, no clock but the bytes that were asked for.

Models are read from end to end, and most are larger than the memory for their bases: to drop what was not used for the
longest time would then drop every frame just before it is needed again. So a frame is kept for one of two reasons:

- *recent*: it was just decoded, and fine-tunes of the same base that are read at the same time are about to ask for it.
  First in, first out; small, so that its buffers are used again at once, unless there is room or its size pays.
- *proven*: it comes back at shorter intervals than those that would have to give way. One that comes back as often as
  they do stays out, so of a model that is read over and over, as much stays as there is room for.

An interval is counted in bytes of distinct frames asked for: uses within `RECENT_NBYTES` of each other are one use.
What is expected of a frame is the mean of its last intervals, the later the weightier, and the time since its last use
counts as one of them; so what is not used any more gives way, however popular it was.

The share of the recent ones grows with each frame missed that plain LRU would still have, and shrinks with each hit on
a proven one that LRU would have dropped (in the manner of ARC, Megiddo and Modha 2003; expected intervals are in the
manner of LIRS, Jiang and Zhang 2002).

Each call takes constant time, spread over the calls. Any thread may call, one at a time.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Final

Key = tuple[int, int]
"""The id of a blob and the number of one of its frames."""

RECENT_NBYTES: Final = 32 << 20
"""The share of the recent ones is never smaller, unless this is more than half of the budget."""

_NEWEST: Final = 0.5
"""The weight of the last interval."""

_TRIES: Final = 2
_FIRST: Final = float("inf")
"""The expected interval of a frame that was asked for once."""

HISTORY_FRAMES: Final = 1 << 18
_PAGES: Final = 1 << 13
_PAGE_FRAMES: Final = 128


class History:
    """When frames were last used and the interval expected of them, for the blobs used last: at most 6 MiB.

    Kept in pages, each for 128 frames of one blob that follow each other, which are forgotten together: 16 bytes for a
    frame and about 250 for a page.
    """

    def __init__(self, frames: int) -> None:
        self.frames = 0
        self._limit = frames
        self._pages: OrderedDict[Key, array[float]] = OrderedDict()

    def page(self, key: Key) -> tuple[array[float], int]:
        """The page for a frame and where in it: the time of the last use, or -1; after it the interval."""
        blob_id, number = key
        where = blob_id, number // _PAGE_FRAMES
        at = number % _PAGE_FRAMES * 2
        page = self._pages.get(where)
        if page is None:
            page = self._pages[where] = array("d")
        else:
            self._pages.move_to_end(where)
        if at >= len(page):
            missing = at // 2 + 1 - len(page) // 2
            page.extend((-1.0, _FIRST) * missing)
            self.frames += missing
            while (self.frames > self._limit or len(self._pages) > _PAGES) and len(self._pages) > 1:
                _, oldest = self._pages.popitem(last=False)
                self.frames -= len(oldest) // 2
        return page, at


class FramePolicy:
    """Says which frames to drop so that the rest keep to `budget_nbytes`, which may be set at any time."""

    def __init__(self, budget_nbytes: int, history_frames: int = HISTORY_FRAMES) -> None:
        self.budget_nbytes = budget_nbytes
        self._history = History(history_frames)
        self._now = 0.0
        self._recent: OrderedDict[Key, int] = OrderedDict()
        self._proven: OrderedDict[Key, int] = OrderedDict()
        self._recent_nbytes = self._proven_nbytes = 0
        self._share = 0
        """Bytes for recent frames, as far as that pays."""

    @property
    def nbytes(self) -> int:
        """Of all frames that were admitted and not dropped."""
        return self._recent_nbytes + self._proven_nbytes

    @property
    def _recent_share(self) -> int:
        return max(self._share, min(RECENT_NBYTES, self.budget_nbytes // 2))

    def used(self, key: Key) -> None:
        """A frame in memory was asked for."""
        nbytes = self._proven.get(key)
        if nbytes is None:
            nbytes = self._recent.get(key)
            if nbytes is not None:
                self._note_use(key, nbytes)
            return
        self._proven.move_to_end(key)
        interval, _ = self._note_use(key, nbytes)
        if interval >= self.budget_nbytes:
            self._share = max(0, self._share - nbytes)

    def admit(self, key: Key, nbytes: int) -> list[Key]:
        """A frame was decoded that was not in memory; returns what to drop, which may be the frame itself."""
        if key in self._recent or key in self._proven:
            self.used(key)
            return []
        interval, expected = self._note_use(key, nbytes)
        if interval < self.budget_nbytes:
            self._share = min(self.budget_nbytes, max(self._share, RECENT_NBYTES) + nbytes)
        dropped: list[Key] = []
        if expected < _FIRST and self._make_room_among_proven(nbytes, expected, dropped):
            self._proven[key] = nbytes
            self._proven_nbytes += nbytes
        else:
            self._recent[key] = nbytes
            self._recent_nbytes += nbytes
        while self.nbytes > self.budget_nbytes:
            victim = self.drop_one()
            assert victim is not None
            dropped.append(victim)
        return dropped

    def drop_one(self) -> Key | None:
        """The frame least worth keeping, which is to be dropped; None if there is none."""
        if self._recent and (self._recent_nbytes > self._recent_share or not self._proven):
            key, nbytes = self._recent.popitem(last=False)
            self._recent_nbytes -= nbytes
            return key
        if not self._proven:
            return None
        looked_at = []
        for _ in range(_TRIES):
            key = next(iter(self._proven))
            looked_at.append(key)
            self._proven.move_to_end(key)
        worst = max(looked_at, key=self._expected)
        self._proven_nbytes -= self._proven.pop(worst)
        return worst

    def _note_use(self, key: Key, nbytes: int) -> tuple[float, float]:
        """The time since the last use, and the interval that is expected now."""
        page, at = self._history.page(key)
        last, expected = page[at], page[at + 1]
        if last < 0:
            self._now += nbytes
            page[at] = self._now
            return _FIRST, _FIRST
        interval = self._now - last
        if interval < RECENT_NBYTES:
            return interval, expected
        self._now += nbytes
        expected = interval if expected == _FIRST else expected + _NEWEST * (interval - expected)
        page[at], page[at + 1] = self._now, expected
        return interval, expected

    def _expected(self, key: Key) -> float:
        """The interval expected of a frame, were it used now."""
        page, at = self._history.page(key)
        last, expected = page[at], page[at + 1]
        return _FIRST if expected == _FIRST else expected + _NEWEST * (self._now - last - expected)

    def _make_room_among_proven(self, nbytes: int, expected: float, dropped: list[Key]) -> bool:
        """Drop proven frames for one that is expected after `expected` bytes, if they are expected later."""
        room = self.budget_nbytes - self._recent_share - nbytes
        for _ in range(_TRIES):
            if self._proven_nbytes <= room or not self._proven:
                break
            key = next(iter(self._proven))
            if self._expected(key) > expected:
                self._proven_nbytes -= self._proven.pop(key)
                dropped.append(key)
            else:
                self._proven.move_to_end(key)
        return self._proven_nbytes <= room
