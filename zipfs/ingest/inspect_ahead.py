"""Owns inspecting ahead: pieces of one file are inspected on another thread, in order, before they are asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from typing import Final, Generic, TypeVar

from zipfs.ingest.holes import Piece

T = TypeVar("T")

AHEAD_NBYTES: Final = 12 << 20
"""More of them only costs memory: small tensors are kept until they are coded."""
_LOOK_EVERY_S: Final = 0.25


class Ahead(Generic[T]):
    """The outcomes of a function of pieces. While one thread takes them in order, one other at a time makes them.

    Outcomes for at most AHEAD_NBYTES, and one more piece, wait to be taken.
    """

    def __init__(self, inspect: Callable[[Piece], T], pieces: Sequence[Piece], executor: Executor) -> None:
        self._inspect = inspect
        self._pieces = pieces
        self._executor = executor
        self._changed = threading.Condition()
        self._made: deque[T | BaseException] = deque()
        self._next = 0
        self._ahead_nbytes = 0
        self._is_left = False
        self._runner: Future[None] | None = None
        self._is_running = False

    def outcomes(self, waiting: Callable[[], object]) -> Iterator[T]:
        """Yield the outcome of each piece, or raise what it raised; calls `waiting` for each, and while it waits."""
        for piece in self._pieces:
            outcome = self._take(piece, waiting)
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def leave(self) -> None:
        """Return once no piece is being inspected any longer, and none will be."""
        with self._changed:
            self._is_left = True
        if self._runner is not None:
            self._runner.cancel()
            wait([self._runner])

    def _take(self, piece: Piece, waiting: Callable[[], object]) -> T | BaseException:
        while not self._is_made():
            waiting()
        waiting()
        with self._changed:
            self._ahead_nbytes -= piece.span.nbytes
            self._start()
            return self._made.popleft()

    def _is_made(self) -> bool:
        """Return whether the next outcome has been made; wait a little for it."""
        with self._changed:
            if not self._made:
                self._start()
            return self._changed.wait_for(lambda: bool(self._made), _LOOK_EVERY_S)

    def _start(self) -> None:
        if not self._is_running and self._may_go_on():
            self._is_running = True
            self._runner = self._executor.submit(self._run)

    def _may_go_on(self) -> bool:
        return self._next < len(self._pieces) and self._ahead_nbytes < AHEAD_NBYTES and not self._is_left

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_running = self._may_go_on()
                if not self._is_running:
                    return
                piece = self._pieces[self._next]
                self._next += 1
            outcome: T | BaseException
            try:
                outcome = self._inspect(piece)
            except BaseException as error:  # noqa: BLE001  # raised where the outcome is wanted
                outcome = error
            with self._changed:
                self._made.append(outcome)
                self._ahead_nbytes += piece.span.nbytes
                if isinstance(outcome, BaseException):
                    self._next = len(self._pieces)
                self._changed.notify()
