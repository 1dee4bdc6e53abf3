"""Progress of a long task, told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""`report(what, done, total)`: so much of a step is done, in its own units. Returns quickly; may raise Stopped."""


def report_nothing(what: str, done: int, total: int) -> None:
    """For callers that nobody watches."""
