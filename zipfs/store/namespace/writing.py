"""What becomes of finished content that is opened for writing, in both trees.

In the served tree the inode stays and its content is open again: what is stored of it shows through the new spool file,
or it goes on in the one that it is still in. Only content that is emptied while somebody reads it is left to its
readers, and the served names lead to a new inode. Below `ingest/` they always do: what is served there stays until the
next seal.

These functions run inside a transaction of the caller, who has made the spool file that they speak of.
"""

from __future__ import annotations

from dataclasses import replace

from zipfs.errors import InvalidMove
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.namespace.attributes import attributes_of, put_xattrs, with_attributes
from zipfs.store.namespace.lifecycle import Effect, Event, transition
from zipfs.store.objects.columns import layout_sum
from zipfs.store.objects.values import Area, Extent, Inode, InodeId, Kind, State


def resume(txn: Transaction, inode: Inode, spool_id: InodeId, *, keeps: bool, shows_older: bool) -> Inode | None:
    """Open the content of a served file again, in spool file `spool_id`; None if it is not as it was any more.

    It `keeps` its size and what it holds, or is emptied; `shows_older` if what is stored shows through the spool file.
    """
    current = _as_it_was(txn, inode)
    if current is None:
        return None
    names = [entry for entry in txn.catalog.entries_of(inode.id) if entry.area is Area.SERVED]
    steps = [transition(current.state, entry.area, Event.WRITE) for entry in names]
    if not steps:
        return None
    _forget_lingering(txn, current, steps[0].effects)
    resumed = replace(current, state=State.OPEN, spool_id=spool_id, sha256=None, nbytes=current.nbytes if keeps else 0)
    if not shows_older and current.layout_sum:
        resumed = _put_extents(txn, resumed, ())
    txn.put_inode(resumed)
    txn.clear_failure(inode.id)
    return resumed


def supersede(
    txn: Transaction, inode: Inode, fresh_id: InodeId, *, under_ingest: bool, shows_older: bool
) -> tuple[Inode, list[Inode]] | None:
    """Give every name that finished content has on one side of the tree to a new OPEN inode; None if it has none there,
    or is not as it was any more.

    The spool file of `fresh_id` holds the content, or nothing; with `shows_older` the stored content shows through it.
    Returns the new inode, and the old one if that has lost its last name.
    """
    if inode.kind is not Kind.FILE:
        raise InvalidMove(f"inode {inode.id}", "only the content of a file can be replaced")
    current = _as_it_was(txn, inode)
    names = [entry for entry in txn.catalog.entries_of(inode.id) if (entry.area is not Area.SERVED) is under_ingest]
    if current is None or not names:
        return None
    event = Event.WRITE if under_ingest else Event.REWRITE
    steps = [transition(current.state, entry.area, event) for entry in names]
    _forget_lingering(txn, current, steps[0].effects)
    now, kept = tree.now_ns(), attributes_of(txn.catalog, current)
    fresh = with_attributes(Inode(fresh_id, Kind.FILE, State.OPEN, 0, 0, 0, 0, now, now), kept)
    txn.put_inode(fresh)
    if shows_older:
        fresh = _put_extents(txn, replace(fresh, nbytes=current.nbytes), txn.catalog.extents(current))
        txn.put_inode(fresh)
    put_xattrs(txn, fresh, kept.xattrs)
    for entry, step in zip(names, steps, strict=True):
        assert step.area is not None
        txn.put_entry(replace(entry, inode_id=fresh.id, area=step.area))
    gone = tree.drop_if_nameless(txn, current)
    return fresh, [] if gone is None else [gone]


def clip(txn: Transaction, inode_id: InodeId, nbytes: int) -> Inode:
    """Have what is stored show through a spool file as far as `nbytes` only: the file was cut off there.

    To be called before it may grow again. Raises NotFound for an inode that is gone.
    """
    inode = txn.catalog.inode(inode_id)
    extents = [
        replace(extent, nbytes=min(extent.nbytes, nbytes - extent.offset))
        for extent in txn.catalog.extents(inode)
        if extent.offset < nbytes
    ]
    clipped = _put_extents(txn, inode, tuple(extents))
    txn.put_inode(clipped)
    return clipped


def _as_it_was(txn: Transaction, inode: Inode) -> Inode | None:
    """Return the inode as it is now, unless its content has come to be elsewhere."""
    current = txn.catalog.inode(inode.id)
    return current if (current.state, current.spool_id) == (inode.state, inode.spool_id) else None


def _forget_lingering(txn: Transaction, inode: Inode, effects: frozenset[Effect]) -> None:
    if Effect.FORGET_LINGERING in effects:
        tree.forget_lingering_names(txn, inode)


def _put_extents(txn: Transaction, inode: Inode, extents: tuple[Extent, ...]) -> Inode:
    """Replace the extents of a file in the spool; returns its inode, which the caller puts."""
    left_to = txn.catalog.heirs(inode.id)
    txn.put_extents(inode.id, extents)
    txn.attribute(left_to)
    added = txn.catalog.added_nbytes([inode.id]).get(inode.id, 0)
    return replace(inode, layout_sum=layout_sum(extents) if extents else 0, stored_nbytes=added)
