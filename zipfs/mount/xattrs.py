"""The extended attributes `user.zipfs.*`: what a mount knows of a file beyond its bytes."""

from __future__ import annotations

from zipfs.store import tree
from zipfs.store.rows import Inode, InodeId, Kind, State
from zipfs.store.store import Store

PREFIX = b"user.zipfs."
PERF = PREFIX + b"perf"
"""Of the root only; see `Virtual.perf`."""
_MAX_BASES = 16


def computed(store: Store, inode: Inode) -> dict[bytes, bytes]:
    """`state`; of a stored file also `stored` (bytes it added to the packs), `ratio`, `bases` (paths) and `sha256`."""
    if inode.kind is not Kind.FILE:
        return {}
    values = {"state": inode.state.value}
    if inode.state is State.STORED:
        values["stored"] = str(inode.stored_nbytes)
        values["ratio"] = f"{inode.stored_nbytes / inode.nbytes:.4f}" if inode.nbytes else "0.0000"
        values["bases"] = b"\n".join(_bases(store, inode)).decode("utf-8", "surrogateescape")
        if inode.sha256 is not None:
            values["sha256"] = inode.sha256.hex()
    return {PREFIX + name.encode(): value.encode("utf-8", "surrogateescape") for name, value in values.items()}


def names(inode: Inode) -> list[bytes]:
    """Names of the computed attributes, without computing them."""
    if inode.kind is not Kind.FILE:
        return []
    stored = ["stored", "ratio", "bases", *(["sha256"] if inode.sha256 is not None else [])]
    return [PREFIX + name.encode() for name in ["state", *(stored if inode.state is State.STORED else [])]]


def _bases(store: Store, inode: Inode) -> list[bytes]:
    """Paths of the files that hold the bases of this one, the most used first."""
    rows = store.catalog.query(
        "SELECT inode_id FROM extents WHERE blob_id IN (SELECT base_id FROM blobs WHERE base_id IS NOT NULL"
        " AND id IN (SELECT blob_id FROM extents WHERE inode_id = ?)) GROUP BY inode_id ORDER BY count(*) DESC LIMIT ?",
        (inode.id, _MAX_BASES),
    )
    return [tree.served_path(store.catalog, InodeId(row[0])) for row in rows]
