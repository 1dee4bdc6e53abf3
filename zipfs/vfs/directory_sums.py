"""The attributes `user.zipfs.*` of a directory: sums over all files below it, each counted once.

Looking through a large tree takes seconds, so it is done by a thread with a catalog of its own.
"""

from __future__ import annotations

import trio

from zipfs.store.objects.values import InodeId, State
from zipfs.store.store import Store


async def sum_directory(store: Store, directory: InodeId) -> dict[str, str]:
    """`state` (that of the file that is least far), `stored` and `ratio`; nothing of a directory without content."""
    return await trio.to_thread.run_sync(_sum, store, directory)


def _sum(store: Store, directory: InodeId) -> dict[str, str]:
    session = store.session()
    try:
        sums = session.catalog.sizes_below(directory)
    finally:
        session.close()
    raw = sum(nbytes for nbytes, _ in sums.values())
    if not raw:
        return {}
    # What is in the spool takes what it holds.
    stored = sum(taken if state is State.STORED else nbytes for state, (nbytes, taken) in sums.items())
    least_far = next(state for state in (State.OPEN, State.SEALED, State.STORED) if state in sums)
    return {"state": least_far.value, "stored": str(stored), "ratio": f"{stored / raw:.4f}"}
