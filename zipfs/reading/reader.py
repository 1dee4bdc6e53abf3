"""Owns the windows of decoded bytes of files: decodes them for whoever reads, and ahead of readers.

A window is a range of one file, contiguous in memory, decoded once however many readers want it. A reader takes a view
of it, uncopied: a lease, so that a window that is dropped meanwhile keeps its memory until the answer is sent. What is
asked for is decoded at once; what is likely to be asked for next is decoded by fewer threads of their own, within a
part of the memory, and given up when the file is closed.

Any thread may call. `_lock` guards everything here that changes; no file is read, nothing decoded and nobody called
back while it is held. A window is decoded by whoever claims it first; decoding waits at most for frames
that are kept, of bases and of plain bytes that are needed in part (`store.frames.cache`), and never for another window.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, ParamSpec, Self, TypeVar

from zipfs.errors import ZipfsError
from zipfs.metrics.counters import Counters
from zipfs.reading.decode_window import bare, decode_window, join
from zipfs.reading.file_slices import FileSlices
from zipfs.reading.readahead import AccessOrder
from zipfs.reading.windows import Countdown, FileKey, OpenFile, Window
from zipfs.store.frames.buffers import buffer_nbytes
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.open_blob import OpenBlobs
from zipfs.store.objects.values import Extent, InodeId

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WINDOW_NBYTES: Final = 4 << 20
_AHEAD_NBYTES: Final = 32 << 20
"""A stream is followed no further."""

_ACCESS_ORDERS: Final = 256
_DEMAND_THREADS: Final = 4
_READ_WINDOWS: Final = 4
_AHEAD_NICENESS: Final = 3
_MAX_NICENESS: Final = 19


class Reader:
    """The windows of a store's files."""

    def __init__(self, frames: FrameCache, counters: Counters | None = None) -> None:
        self._frames = frames
        self._counters = counters or Counters()
        self._lock = threading.Lock()
        self._files: dict[FileKey, OpenFile] = {}
        self._access_orders: OrderedDict[int, AccessOrder] = OrderedDict()
        self._kept: OrderedDict[Window, None] = OrderedDict()
        self._read: OrderedDict[Window, None] = OrderedDict()
        """Read to the end, so that it is in the page cache now; few of them, and the first to go."""
        self._nbytes = 0
        self._ahead_nbytes = 0
        self._demand = ThreadPoolExecutor(_DEMAND_THREADS, "decode")
        # One more than cores, for there is always one that waits for the disk.
        self._ahead = ThreadPoolExecutor((os.cpu_count() or 1) + 1, "ahead", initializer=_lower_rank)
        self._demand.submit(_begin)
        frames.budget.join(self)
        counted = self._counters
        self._frame_counters = FrameCounters(
            fetched=counted.fetch.add,
            decoded=counted.decode.add,
            base_hit=counted.base_hits.add,
            base_missed=counted.base_misses.add,
            fetch_failed=counted.fetch.fail,
            decode_failed=counted.decode.fail,
        )
        self._gauges: Mapping[str, Callable[[], float]] = {
            "cache_bytes": lambda: frames.budget.used_nbytes,
            "ahead_bytes": lambda: self._ahead_nbytes,
            "streams": self._count_streams,
        }
        for name, read in self._gauges.items():
            counted.gauge(name, read)

    def close(self) -> None:
        """End the threads; nothing may be read any more."""
        self._ahead.shutdown(cancel_futures=True)
        self._demand.shutdown()
        self._frames.budget.leave(self)
        for name in self._gauges:
            self._counters.remove_gauge(name)
        self._gauges = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count_streams(self) -> int:
        with self._lock:
            return sum(len(file.readahead) for file in self._files.values())

    # A share of the memory budget

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def floor_nbytes(self) -> int:
        return self._frames.budget.nbytes // 4

    def drop_one(self) -> bool:
        """Drop the window that is least worth keeping; return whether there was one."""
        with self._lock:
            windows = self._read or self._kept
            if not windows:
                return False
            self._forget(next(iter(windows)))
        return True

    def _forget(self, window: Window) -> None:
        """Drop a decoded window; its memory is used again once nobody reads it any more."""
        del (self._read if window in self._read else self._kept)[window]
        self._nbytes -= buffer_nbytes(window.nbytes)
        self._take_out(window)

    def _take_out(self, window: Window) -> None:
        for number in range(window.first, window.stop):
            window.file.windows.pop(number, None)
        if window.ahead:
            window.ahead = False
            self._ahead_nbytes -= window.nbytes
            self._counters.prefetch_wasted.add(window.nbytes)

    # Files

    def open_file(self, inode_id: InodeId, version: int, extents: Sequence[Extent], blobs: OpenBlobs) -> OpenFile:
        """Return a version of the file of an inode, shared by all who have it open; to be handed to `close_file`.

        Each sequence of extents of an inode has another `version`.
        """
        key = inode_id, version
        with self._lock:
            file = self._files.get(key)
            if file is None:
                layout = hash(tuple((extent.offset, extent.nbytes) for extent in extents))
                order = self._access_orders.setdefault(layout, {})
                self._access_orders.move_to_end(layout)
                if len(self._access_orders) > _ACCESS_ORDERS:
                    self._access_orders.popitem(last=False)
                file = self._files[key] = OpenFile(key, FileSlices(extents, blobs.steps(extents)), blobs, order)
            file.users += 1
            return file

    def share_file(self, file: OpenFile) -> None:
        """Count one user more of a file that is open; each hands it to `close_file`."""
        with self._lock:
            file.users += 1

    def close_file(self, file: OpenFile) -> None:
        """Count one user less; drop what was decoded of a file that has none."""
        with self._lock:
            file.users -= 1
            if file.users:
                return
            del self._files[file.key]
            for window in set(file.windows.values()):
                if window.content is not None:
                    self._forget(window)
                elif window.ahead and not window.claimed:
                    window.claimed = True  # nobody will ask for it
                    self._take_out(window)

    # Windows

    def find(self, file: OpenFile, offset: int, nbytes: int) -> list[Window] | None:
        """Return the windows that hold a range, in order, if all are decoded."""
        with self._lock:
            windows = list(self._present(file, offset, nbytes))
            found = [window for window in windows if window is not None and window.content is not None]
            if len(found) < len(windows):
                return None
            for window in found:
                self._note_use(window, offset, nbytes)
        self._counters.hits.add(nbytes)
        return found

    def _present(self, file: OpenFile, offset: int, nbytes: int) -> Iterator[Window | None]:
        number, last = file.slices.at(offset), file.slices.at(offset + nbytes - 1)
        while number <= last:
            window = file.windows.get(number)
            yield window
            number = number + 1 if window is None else window.stop

    def _note_use(self, window: Window, offset: int, nbytes: int) -> None:
        if window.ahead:
            window.ahead = False
            self._ahead_nbytes -= window.nbytes
            self._counters.prefetch_used.add(window.nbytes)
        window.read_nbytes += min(window.offset + window.nbytes, offset + nbytes) - max(window.offset, offset)
        if window not in self._kept:
            return
        if window.read_nbytes < window.nbytes:
            self._kept.move_to_end(window)
            return
        del self._kept[window]
        self._read[window] = None
        if len(self._read) > _READ_WINDOWS:
            self._forget(next(iter(self._read)))

    def claim(self, file: OpenFile, offset: int, nbytes: int) -> tuple[list[Window], list[Window]]:
        """Return all windows that hold a range, and those of them that nobody decodes yet."""
        with self._lock:
            last = file.slices.at(offset + nbytes - 1)
            number = file.slices.at(offset)
            windows: list[Window] = []
            while number <= last:
                window = file.windows.get(number) or self._make(file, number, last, WINDOW_NBYTES, ahead=False)
                windows.append(window)
                self._note_use(window, offset, nbytes)
                number = window.stop
            unclaimed = [window for window in windows if not window.claimed]
        (self._counters.misses if unclaimed else self._counters.waits).add(nbytes)
        return windows, unclaimed

    def _make(self, file: OpenFile, first: int, last: int, at_most: int, *, ahead: bool) -> Window:
        """Add a window from slice `first` on: up to slice `last`, the next that is in one already, or `at_most` bytes.

        One that is decoded `ahead` ends where its readers have what follows. Slices that have failed get windows of
        their own, or good ones would fail with them.
        """
        offset = file.slices[first].offset
        stop, nbytes = first, 0
        while stop <= last and stop not in file.windows:
            file_slice = file.slices[stop]
            if nbytes and (nbytes + file_slice.nbytes > at_most or not file.apart.isdisjoint((stop - 1, stop))):
                break
            if ahead and file.is_kept(stop):
                break
            nbytes += file_slice.nbytes
            stop += 1
        window = Window(file, first, stop, offset, nbytes, ahead)
        file.windows.update(dict.fromkeys(range(first, stop), window))
        if ahead:
            self._ahead_nbytes += nbytes
        return window

    def follow(self, file: OpenFile, offset: int, nbytes: int) -> None:
        """Note what was asked for, and begin to decode what is likely to be next."""
        made: list[Window] = []
        with self._lock:
            limit = self._frames.budget.nbytes // 8
            file.note_answer(offset, nbytes)
            ranges = file.readahead.observe(offset, nbytes, min(_AHEAD_NBYTES, limit))
            at_most = min(WINDOW_NBYTES, sum(end - begin for begin, end in ranges))
            for begin, end in ranges:
                number, last = file.slices.at(begin), file.slices.at(end - 1)
                # Beyond the last range a window goes on with its stream: they would get shorter with each request.
                goes_on = file.readahead.goes_on and (begin, end) == ranges[-1]
                until = len(file.slices) - 1 if goes_on else last
                while number <= last and self._ahead_nbytes < limit:
                    window = file.windows.get(number)
                    if window is None and number not in file.apart and not file.is_kept(number):
                        window = self._make(file, number, until, at_most, ahead=True)
                        made.append(window)
                    number = number + 1 if window is None else window.stop
        for window in made:
            self._counters.prefetched.add(window.nbytes)
            self._ahead.submit(self.decode, window)

    def join(self, windows: Sequence[Window], offset: int, nbytes: int) -> memoryview:
        """Return a range out of the decoded windows that hold it; copied only where there are several."""
        return join(self._frames.buffers, windows, offset, nbytes)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call something on another thread, for somebody who waits."""
        return self._demand.submit(call, *args, **kwargs)

    def decode(self, window: Window) -> None:
        """Decode a window unless somebody else does or did."""
        with self._lock:
            if window.claimed:
                return
            window.claimed = True
        try:
            content = decode_window(self._frames, window, self._frame_counters)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, ZipfsError):
                log.exception("decoding failed")
            self._finish(window, None, bare(error))
            if not isinstance(error, Exception):
                raise
        else:
            self._finish(window, content, None)

    def _finish(self, window: Window, content: memoryview | None, error: BaseException | None) -> None:
        with self._lock:
            window.content, window.error = content, error
            waiting, window.waiting = window.waiting, []
            if error is None:
                window.file.apart.discard(window.first)
            else:
                window.file.apart.update(range(window.first, window.stop))
            if error is None and window.file.users:
                self._kept[window] = None
                self._nbytes += buffer_nbytes(window.nbytes)
            else:
                self._take_out(window)
        for call in waiting:
            call()
        self._frames.budget.make_room(0)

    def when_all(self, windows: Sequence[Window], call: Callable[[], None]) -> None:
        """Call `call` once all windows are decoded or have failed: now, or by the thread that ends the last."""
        left = Countdown(len(windows) + 1, call)
        with self._lock:
            for window in windows:
                if window.finished:
                    left.step()
                else:
                    window.waiting.append(left.step)
        left.step()

    def wait(self, windows: Sequence[Window]) -> None:
        """Wait until all windows are decoded or have failed."""
        done = threading.Event()
        self.when_all(windows, done.set)
        done.wait()


def _begin() -> None:
    """Have a thread there before somebody waits for it."""


def _lower_rank() -> None:
    """Have this thread give way to those that answer a request, whatever their rank: none may be raised."""
    rank = os.getpriority(os.PRIO_PROCESS, 0) + _AHEAD_NICENESS
    # Sandboxes may forbid it; an error here would end the pool, and with it every read.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(rank, _MAX_NICENESS))
