"""How a command waits for the one process that may write packs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from zipfs.cli.render.messages import message

if TYPE_CHECKING:
    from zipfs.store.disk.stopping import Stop
    from zipfs.store.store import Store

_WAITING: Final = "waiting: another process is compressing or collecting in this store"


def pack_lock(store: Store, stop: Stop) -> AbstractContextManager[None]:
    """Hold the lock on packs; say so where it has to be waited for. Raises Stopped."""
    return store.lock("pack").held(_WAITING, waiting=lambda: message(_WAITING), stop=stop)
