"""The attributes `user.zipfs.*` of a directory: sums over all files below it, each counted once."""

from __future__ import annotations

from zipfs.store.objects.values import InodeId, State
from zipfs.store.store import Store
from zipfs.vfs.change import COMPUTED_PREFIX


def sum_directory(store: Store, directory: InodeId) -> dict[bytes, bytes]:
    """Return `state` (that of the file that is least far), `stored` and `ratio`; nothing where there is no content.

    Looking through a large tree takes seconds: for a thread, with a session of its own.
    """
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
    values = {"state": least_far.value, "stored": str(stored), "ratio": f"{stored / raw:.4f}"}
    return {COMPUTED_PREFIX + name.encode(): value.encode() for name, value in values.items()}
