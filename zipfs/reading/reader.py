"""Decodes files of a store into slabs of memory, for whoever reads them, and ahead of them.

A slab is a range of one file, contiguous in memory, decoded once however many readers want it. A reader takes a view of
it, uncopied. What is asked for is decoded at once; what is likely to be asked for next is decoded by fewer threads of
their own, within a part of the memory, and given up when the file is closed.

Any thread may call. `_lock` guards everything here that changes; no file is read, nothing decoded and nobody called
back while it is held. A slab is decoded by whoever claims it first; decoding waits for frames of bases at most
(`store.blobs`), never for another slab.
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
from zipfs.reading.decode_window import bare, decode_slab, join
from zipfs.reading.readahead import Order
from zipfs.reading.windows import Countdown, OpenFile, Slab
from zipfs.store.frames.buffers import buffer_nbytes
from zipfs.store.frames.cache import UNWATCHED, FrameCache, OpenBlob, Watch
from zipfs.store.objects.values import BlobId, Extent, InodeId

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

SLAB_NBYTES: Final = 4 << 20
_AHEAD_NBYTES: Final = 32 << 20
"""A stream is followed no further."""

_ORDERS: Final = 256
_DEMAND_THREADS: Final = 4
_READ_SLABS: Final = 4
_AHEAD_NICENESS: Final = 3
_MAX_NICENESS: Final = 19


class Reader:
    """The slabs of a store's files."""

    def __init__(self, frames: FrameCache, counters: Counters | None = None) -> None:
        self._frames = frames
        self._counters = counters or Counters()
        self._lock = threading.Lock()
        self._files: dict[InodeId, OpenFile] = {}
        self._orders: OrderedDict[int, Order] = OrderedDict()
        self._kept: OrderedDict[Slab, None] = OrderedDict()
        self._read: OrderedDict[Slab, None] = OrderedDict()
        """Read to the end, so that it is in the page cache now; few of them, and the first to go."""
        self._nbytes = 0
        self._ahead_nbytes = 0
        self._demand = ThreadPoolExecutor(_DEMAND_THREADS, "decode")
        # One more than cores, for there is always one that waits for the disk.
        self._ahead = ThreadPoolExecutor((os.cpu_count() or 1) + 1, "ahead", initializer=_lower_rank)
        self._demand.submit(_begin)
        frames.budget.join(self)
        counted = self._counters
        # What is fetched and decoded is done for all readers of a cache: the first of them counts it.
        self._watches = frames.watch is UNWATCHED
        if self._watches:
            frames.watch = Watch(
                counted.fetch.add,
                counted.decode.add,
                counted.base_hits.add,
                counted.base_misses.add,
                counted.fetch.fail,
                counted.decode.fail,
            )
        counted.gauge("cache_bytes", lambda: frames.budget.used_nbytes)
        counted.gauge("ahead_bytes", lambda: self._ahead_nbytes)
        counted.gauge("streams", self._count_streams)

    def close(self) -> None:
        """Ends the threads; nothing may be read any more."""
        self._ahead.shutdown(cancel_futures=True)
        self._demand.shutdown()
        self._frames.budget.leave(self)
        if self._watches:
            self._frames.watch = UNWATCHED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count_streams(self) -> int:
        with self._lock:
            return sum(len(file.streams) for file in self._files.values())

    # The share of the memory

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def floor_nbytes(self) -> int:
        return self._frames.budget.nbytes // 4

    def drop_one(self) -> bool:
        with self._lock:
            slabs = self._read or self._kept
            if not slabs:
                return False
            self._forget(next(iter(slabs)))
        return True

    def _forget(self, slab: Slab) -> None:
        """Of a decoded slab, let its memory be used again."""
        del (self._read if slab in self._read else self._kept)[slab]
        self._nbytes -= buffer_nbytes(slab.nbytes)
        self._take_out(slab)
        self._frames.buffers.keep(slab.view())

    def _take_out(self, slab: Slab) -> None:
        for number in range(slab.first, slab.stop):
            slab.file.slabs.pop(number, None)
        if slab.ahead:
            slab.ahead = False
            self._ahead_nbytes -= slab.nbytes
            self._counters.prefetch_wasted.add(slab.nbytes)

    # Files

    def open_file(self, inode_id: InodeId, extents: Sequence[Extent], blobs: Mapping[BlobId, OpenBlob]) -> OpenFile:
        """The file of an inode, shared by all who have it open; to be handed to `close_file`."""
        with self._lock:
            file = self._files.get(inode_id)
            if file is None:
                layout = hash(tuple((extent.offset, extent.nbytes) for extent in extents))
                order = self._orders.setdefault(layout, {})
                self._orders.move_to_end(layout)
                if len(self._orders) > _ORDERS:
                    self._orders.popitem(last=False)
                file = self._files[inode_id] = OpenFile(inode_id, extents, blobs, order)
            file.users += 1
            return file

    def share_file(self, file: OpenFile) -> None:
        """One user more of a file that is open; each hands it to `close_file`."""
        with self._lock:
            file.users += 1

    def close_file(self, inode_id: InodeId, file: OpenFile) -> None:
        with self._lock:
            file.users -= 1
            if file.users:
                return
            del self._files[inode_id]
            for slab in set(file.slabs.values()):
                if slab.content is not None:
                    self._forget(slab)
                elif slab.ahead and not slab.claimed:
                    slab.claimed = True  # nobody will ask for it
                    self._take_out(slab)

    # Slabs

    def find(self, file: OpenFile, offset: int, nbytes: int) -> list[Slab] | None:
        """Slabs that hold a range, in order, if all are decoded."""
        with self._lock:
            slabs = list(self._present(file, offset, nbytes))
            found = [slab for slab in slabs if slab is not None and slab.content is not None]
            if len(found) < len(slabs):
                return None
            for slab in found:
                self._note_use(slab, offset, nbytes)
        self._counters.hits.add(nbytes)
        return found

    def _present(self, file: OpenFile, offset: int, nbytes: int) -> Iterator[Slab | None]:
        number, last = file.cells.at(offset), file.cells.at(offset + nbytes - 1)
        while number <= last:
            slab = file.slabs.get(number)
            yield slab
            number = number + 1 if slab is None else slab.stop

    def _note_use(self, slab: Slab, offset: int, nbytes: int) -> None:
        if slab.ahead:
            slab.ahead = False
            self._ahead_nbytes -= slab.nbytes
            self._counters.prefetch_used.add(slab.nbytes)
        slab.read_nbytes += min(slab.offset + slab.nbytes, offset + nbytes) - max(slab.offset, offset)
        if slab not in self._kept:
            return
        if slab.read_nbytes < slab.nbytes:
            self._kept.move_to_end(slab)
            return
        del self._kept[slab]
        self._read[slab] = None
        if len(self._read) > _READ_SLABS:
            self._forget(next(iter(self._read)))

    def claim(self, file: OpenFile, offset: int, nbytes: int) -> tuple[list[Slab], list[Slab]]:
        """All slabs that hold a range; and those of them that nobody decodes yet."""
        with self._lock:
            last = file.cells.at(offset + nbytes - 1)
            number = file.cells.at(offset)
            slabs: list[Slab] = []
            while number <= last:
                slab = file.slabs.get(number) or self._make(file, number, last, SLAB_NBYTES, ahead=False)
                slabs.append(slab)
                self._note_use(slab, offset, nbytes)
                number = slab.stop
            unclaimed = [slab for slab in slabs if not slab.claimed]
        (self._counters.misses if unclaimed else self._counters.waits).add(nbytes)
        return slabs, unclaimed

    def _make(self, file: OpenFile, first: int, last: int, at_most: int, *, ahead: bool) -> Slab:
        """A slab from cell `first` on: up to cell `last`, or the next that is there already, or `at_most` bytes.

        One that is decoded `ahead` ends where its readers have what follows. Cells that have failed get slabs of their
        own, or good ones would fail with them.
        """
        offset = file.cells[first].offset
        stop, nbytes = first, 0
        while stop <= last and stop not in file.slabs:
            cell = file.cells[stop]
            if nbytes and (nbytes + cell.nbytes > at_most or not file.apart.isdisjoint((stop - 1, stop))):
                break
            if ahead and file.is_kept(stop):
                break
            nbytes += cell.nbytes
            stop += 1
        slab = Slab(file, first, stop, offset, nbytes, ahead)
        file.slabs.update(dict.fromkeys(range(first, stop), slab))
        if ahead:
            self._ahead_nbytes += nbytes
        return slab

    def follow(self, file: OpenFile, offset: int, nbytes: int) -> None:
        """Note what was asked for, and begin to decode what is likely to be next."""
        made: list[Slab] = []
        with self._lock:
            limit = self._frames.budget.nbytes // 8
            file.note_answer(offset, nbytes)
            ranges = file.streams.observe(offset, nbytes, min(_AHEAD_NBYTES, limit))
            at_most = min(SLAB_NBYTES, sum(end - begin for begin, end in ranges))
            for begin, end in ranges:
                number, last = file.cells.at(begin), file.cells.at(end - 1)
                # Beyond the last range a slab goes on with its stream: they would get shorter with each request.
                goes_on = file.streams.goes_on and (begin, end) == ranges[-1]
                until = len(file.cells) - 1 if goes_on else last
                while number <= last and self._ahead_nbytes < limit:
                    slab = file.slabs.get(number)
                    if slab is None and number not in file.apart and not file.is_kept(number):
                        slab = self._make(file, number, until, at_most, ahead=True)
                        made.append(slab)
                    number = number + 1 if slab is None else slab.stop
        for slab in made:
            self._counters.prefetched.add(slab.nbytes)
            self._ahead.submit(self.decode, slab)

    def join(self, slabs: Sequence[Slab], offset: int, nbytes: int) -> memoryview:
        """A range out of the decoded slabs that hold it; copied only where there are several."""
        return join(self._frames.buffers, slabs, offset, nbytes)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have something done on another thread for which somebody waits."""
        return self._demand.submit(call, *args, **kwargs)

    def decode(self, slab: Slab) -> None:
        """Decode a slab unless somebody else does or did."""
        with self._lock:
            if slab.claimed:
                return
            slab.claimed = True
        try:
            content = decode_slab(self._frames, slab)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, ZipfsError):
                log.exception("decoding failed")
            self._finish(slab, None, bare(error))
            if not isinstance(error, Exception):
                raise
        else:
            self._finish(slab, content, None)

    def _finish(self, slab: Slab, content: memoryview | None, error: BaseException | None) -> None:
        with self._lock:
            slab.content, slab.error = content, error
            waiting, slab.waiting = slab.waiting, []
            if error is None:
                slab.file.apart.discard(slab.first)
            else:
                slab.file.apart.update(range(slab.first, slab.stop))
            if error is None and slab.file.users:
                self._kept[slab] = None
                self._nbytes += buffer_nbytes(slab.nbytes)
            else:
                self._take_out(slab)
        for call in waiting:
            call()
        self._frames.budget.make_room(0)

    def when_all(self, slabs: Sequence[Slab], call: Callable[[], None]) -> None:
        """`call` once all slabs are decoded or have failed: now, or by the thread that ends the last."""
        left = Countdown(len(slabs) + 1, call)
        with self._lock:
            for slab in slabs:
                if slab.finished:
                    left.step()
                else:
                    slab.waiting.append(left.step)
        left.step()

    def wait(self, slabs: Sequence[Slab]) -> None:
        """Until all slabs are decoded or have failed."""
        done = threading.Event()
        self.when_all(slabs, done.set)
        done.wait()


def _begin() -> None:
    """Has a thread there before somebody waits for it."""


def _lower_rank() -> None:
    """Have this thread give way to those that answer a request, whatever their rank: none may be raised."""
    rank = os.getpriority(os.PRIO_PROCESS, 0) + _AHEAD_NICENESS
    # Sandboxes may forbid it; an error here would end the pool, and with it every read.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(rank, _MAX_NICENESS))
