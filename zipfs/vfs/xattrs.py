"""The extended attributes `user.zipfs.*`: what a mount knows of a file beyond its bytes."""

from __future__ import annotations

from itertools import islice

from zipfs.store.objects.values import Inode, Kind, State
from zipfs.store.store import Store
from zipfs.vfs.change import COMPUTED_PREFIX
from zipfs.vfs.place import Place
from zipfs.vfs.visibility import Requester, Sight

PERF = COMPUTED_PREFIX + b"perf"
"""Of the root only; see `Virtual.perf`."""
_MAX_BASES = 16
_MAX_LOOKED_AT = 64
"""Files that are looked into for who may not see all: some milliseconds, in which nothing else is answered."""


def is_computed(name: bytes) -> bool:
    """Return whether an attribute is one that a mount makes up."""
    return name.startswith(COMPUTED_PREFIX)


def are_sums(where: Place, inode: Inode, who: Requester) -> bool:
    """Return whether the attributes of an inode are those of all that is below it (`directory_sums.py`)."""
    return inode.is_directory and not where.under_ingest and who.sees_everything


def computed(store: Store, inode: Inode, who: Requester) -> dict[bytes, bytes]:
    """`state`; of a stored file also `stored` (bytes it added to the packs), `ratio`, `bases` (paths) and `sha256`.

    `stored` and `ratio` are for who sees everything: a file that added nothing is one that somebody else has.
    """
    if inode.kind is not Kind.FILE:
        return {}
    values = {"state": inode.state.value}
    if inode.state is State.STORED:
        if who.sees_everything:
            values["stored"] = str(inode.stored_nbytes)
            values["ratio"] = f"{inode.stored_nbytes / inode.nbytes:.4f}" if inode.nbytes else "0.0000"
        values["bases"] = b"\n".join(_bases(store, inode, who)).decode("utf-8", "surrogateescape")
        if inode.sha256 is not None:
            values["sha256"] = inode.sha256.hex()
    return {COMPUTED_PREFIX + name.encode(): value.encode("utf-8", "surrogateescape") for name, value in values.items()}


def _bases(store: Store, inode: Inode, who: Requester) -> list[bytes]:
    """Paths of the files that hold the bases of this one and that somebody may read, the most used first."""
    files = store.catalog.files_with_bases_of(inode.id, _MAX_BASES if who.sees_everything else _MAX_LOOKED_AT)
    sight = Sight(store.catalog, who)
    paths = (sight.path_of(file) for file in files)
    return list(islice((path for path in paths if path or who.sees_everything), _MAX_BASES))
