"""How signals end a command that the next run would begin from the start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zipfs.store.disk.stopping import Stop


@contextmanager
def aborting_on_signals(stop: Stop) -> Iterator[None]:
    """Stop on a signal, and raise Abort in place of Stopped: nothing is left that a next run would go on from."""
    from zipfs.errors import Stopped
    from zipfs.store.disk.stopping import stopping_on_signals

    try:
        with stopping_on_signals(stop):
            yield
    except Stopped:
        raise click.Abort from None
