"""Owns the encoding of blobs into a pack: frames of several are coded at once, and appended in order.

What a caller has begun goes on while it does other things. It is one thread that begins blobs and appends their
frames, whenever it waits for one or begins another; frames are coded on the threads of an executor. Raw bytes of at
most AHEAD_NBYTES are in work, or coded and not appended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from typing import Final

from zipfs.codec import encode_frame, frame_nbytes, read_header
from zipfs.errors import Damaged
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import OpenBlob, opened
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BaseRef, BlobId, frame_seed
from zipfs.store.packs.writer import PackWriter

AHEAD_NBYTES: Final = 12 << 20
"""So much is coded in the time in which another thread inspects the next tensor of a large model."""
_INLINE_NBYTES: Final = 64 << 10
"""Below this a hop to another thread costs more than the coding."""

ReadFrame = Callable[[int, int], bytes | memoryview]


def _read_nothing(index: int, nbytes: int) -> bytes:
    raise AssertionError("all frames have been coded")


@dataclass(eq=False, slots=True)
class BlobInWork:
    """A blob that is being encoded against a view of a base, which it does not get if that helps in no frame.

    `read_frame(index, length)` returns its raw bytes; any thread may call it. `passed` is told of the raw bytes of each
    frame that is appended. Where the base is damaged, `base_damaged` is told and the blob coded without it; without
    that function, the error is raised.
    """

    blob_id: BlobId
    fingerprint: bytes
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read_frame: ReadFrame
    base: tuple[OpenBlob, View] | None
    passed: Callable[[int], None]
    base_damaged: Callable[[Damaged], None] | None = None
    coded: deque[Future[bytes]] = field(default_factory=deque, init=False)
    """Its frames that are in work, or coded and not appended, in order."""
    submitted: int = field(default=0, init=False)
    appended: int = field(default=0, init=False)
    base_helped: bool = field(default=False, init=False)
    done: OpenBlob | None = field(default=None, init=False)
    step_nbytes: int = field(init=False)
    """Raw bytes of each frame but the last."""

    def __post_init__(self) -> None:
        self.step_nbytes = frame_nbytes(self.dtype)

    @property
    def count(self) -> int:
        return -(-self.nbytes // self.step_nbytes)

    def frame_nbytes(self, index: int) -> int:
        return min(self.step_nbytes, self.nbytes - index * self.step_nbytes)

    def wait(self) -> None:
        """Have none of its frames be in work any longer, and forget them."""
        for future in self.coded:
            future.cancel()
        wait(self.coded)
        self.coded.clear()


class BlobEncoder:
    """Encodes blobs into one pack."""

    def __init__(
        self,
        writer: PackWriter,
        frames: FrameCache,
        executor: Executor,
        appended: Callable[[OpenBlob], None] = lambda blob: None,
    ) -> None:
        """`appended` is told of each blob once all of it is in the pack."""
        self._writer = writer
        self._frames = frames
        self._executor = executor
        self._appended = appended
        self._in_work: deque[BlobInWork] = deque()
        self._ahead_nbytes = 0

    def begin(self, blob: BlobInWork) -> BlobInWork:
        """Begin to encode a blob, and return it.

        Raises what goes wrong with this one or one that was begun before: then everything in work is to be dropped.
        """
        self._in_work.append(blob)
        self._submit(blob)
        while blob.submitted < blob.count:
            self._append_next()
            self._submit(blob)
        return blob

    def is_member(self, blob: BlobInWork, *, wait: bool) -> bool | None:
        """Return whether a blob has a base in the end; None if that is not known yet and not waited for."""
        if blob.base is None or blob.base_helped or blob.done is not None:
            return blob.base_helped
        for future in blob.coded:
            if not wait and (not future.done() or future.exception() is not None):
                return None
            if future.exception() is not None:
                self.finish(blob)
                break
            if read_header(future.result()).needs_base:
                blob.base_helped = True
                break
        return blob.base_helped

    def finish(self, blob: BlobInWork) -> OpenBlob:
        """Return a blob once all of it is appended. Raises as `begin`."""
        while blob.done is None:
            self._append_next()
        return blob.done

    def encode(self, blob: BlobInWork) -> OpenBlob:
        """Encode a blob as `begin` does, with nothing else in work. Nothing is left of it when this raises."""
        try:
            return self.finish(self.begin(blob))
        except BaseException:
            self.drop_all()
            raise

    def drop_all(self) -> None:
        """Leave nothing of the blobs that are in work."""
        for blob in self._in_work:
            blob.wait()
        if self._in_work and self._in_work[0].appended:
            self._writer.drop_blob()
        self._in_work.clear()
        self._ahead_nbytes = 0

    def _submit(self, blob: BlobInWork) -> None:
        """Have as many frames of a blob coded as may be in work; of that which is appended next, one at least."""
        while blob.submitted < blob.count:
            nbytes = blob.frame_nbytes(blob.submitted)
            is_next = blob is self._in_work[0] and not blob.coded
            if self._ahead_nbytes + nbytes > AHEAD_NBYTES and not is_next:
                return
            if nbytes <= _INLINE_NBYTES and blob.count == 1:
                coded: Future[bytes] = Future()
                try:
                    coded.set_result(self._encode(blob, blob.base, 0))
                except Exception as error:  # noqa: BLE001  # raised where the frame is wanted
                    coded.set_exception(error)
            else:
                coded = self._executor.submit(self._encode, blob, blob.base, blob.submitted)
            blob.coded.append(coded)
            blob.submitted += 1
            self._ahead_nbytes += nbytes

    def _encode(self, blob: BlobInWork, base: tuple[OpenBlob, View] | None, index: int) -> bytes:
        at = index * blob.step_nbytes
        raw = blob.read_frame(index, blob.frame_nbytes(index))
        against = None if base is None else self._frames.view(*base, at, len(raw))
        return encode_frame(raw, blob.dtype, against, frame_seed(blob.blob_id, index))

    def _append_next(self) -> None:
        """Append the frame that comes next, once it is coded."""
        blob = self._in_work[0]
        if not blob.appended:
            self._writer.begin_blob()
        if blob.appended < blob.count:
            self._submit(blob)
            try:
                frame = blob.coded[0].result()
            except Damaged as error:
                if blob.base is None or blob.base_damaged is None:
                    raise
                blob.base_damaged(error)
                self._code_standalone(blob)
                return
            blob.coded.popleft()
            nbytes = blob.frame_nbytes(blob.appended)
            self._ahead_nbytes -= nbytes
            self._writer.append_frame(frame)
            blob.appended += 1
            blob.base_helped = blob.base_helped or read_header(frame).needs_base
            blob.passed(nbytes)
        if blob.appended == blob.count:
            blob.done = self._end(blob)
            blob.read_frame = _read_nothing  # which may hold the raw bytes
            self._in_work.popleft()
            self._appended(blob.done)

    def _code_standalone(self, blob: BlobInWork) -> None:
        """Begin the first blob in work anew, without its base.

        Frames coded standalone among the others would not help: those who read them would still ask for the base.
        """
        self._ahead_nbytes -= sum(blob.frame_nbytes(blob.appended + at) for at in range(len(blob.coded)))
        blob.wait()
        if blob.appended:
            self._writer.drop_blob()
        blob.base, blob.base_helped = None, False
        blob.submitted = blob.appended = 0
        self._submit(blob)

    def _end(self, blob: BlobInWork) -> OpenBlob:
        used = blob.base if blob.base_helped else None
        reference = None if used is None else BaseRef(used[0].blob.id, used[1])
        written = self._writer.end_blob(blob.blob_id, blob.nbytes, blob.fingerprint, blob.dtype, blob.shape, reference)
        return opened(written, self._writer.file, None if used is None else used[0])
