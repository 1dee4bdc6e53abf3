"""Reports of the progress of long work."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done and how much there is, in units of its own.

Returns quickly; may raise Stopped.
"""


def report_nothing(what: str, done: int, total: int) -> None:
    """Report to nobody."""
