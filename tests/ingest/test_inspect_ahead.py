"""What is inspected ahead comes in order, is limited, and ends when nobody wants it any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from zipfs.formats import Span
from zipfs.ingest import inspect_ahead
from zipfs.ingest.holes import Piece
from zipfs.ingest.inspect_ahead import Ahead

PIECES = tuple(Piece(Span(10 * number, 10, "", (), None)) for number in range(40))


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def test_pieces_come_in_order_and_few_are_ahead(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_ahead, "AHEAD_NBYTES", 50)
    inspected: list[int] = []
    taken: list[int] = []
    most = 0

    def inspect(piece: Piece) -> int:
        nonlocal most
        inspected.append(piece.span.offset)
        most = max(most, len(inspected) - len(taken))
        return piece.span.offset

    ahead = Ahead(inspect, PIECES, executor)
    taken.extend(ahead.outcomes(lambda: None))
    assert taken == inspected == [piece.span.offset for piece in PIECES]
    assert 1 <= most <= 50 // 10 + 2


def test_what_goes_wrong_is_raised_at_its_piece_and_ends_it(executor: Executor) -> None:
    def inspect(piece: Piece) -> int:
        if piece is PIECES[3]:
            raise ValueError("odd")
        return piece.span.offset

    taken: list[int] = []
    ahead = Ahead(inspect, PIECES, executor)
    with pytest.raises(ValueError, match="odd"):
        taken.extend(ahead.outcomes(lambda: None))
    ahead.leave()
    assert taken == [0, 10, 20]


def test_whoever_waits_long_is_called_meanwhile_and_may_end_it(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect_ahead, "_LOOK_EVERY_S", 0.001)
    go_on = threading.Event()
    calls = 0

    def inspect(piece: Piece) -> int:
        assert go_on.wait(60)
        return piece.span.offset

    def waiting() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyError("enough")

    ahead = Ahead(inspect, PIECES, executor)
    with pytest.raises(KeyError):
        next(ahead.outcomes(waiting))
    go_on.set()
    ahead.leave()
    assert calls == 3
    executor.submit(lambda: None).result(60)  # the only thread is free again
