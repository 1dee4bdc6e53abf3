"""The seal of files that were written in the served tree: each by itself, once nobody writes to it any more.

They are served already. Sealing says that their content is final until somebody opens them for writing again, and that
it can be compressed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from zipfs.errors import NotFound
from zipfs.host import bounded_time_ns
from zipfs.store.catalog.queries import Catalog
from zipfs.store.disk import faults
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event, transition
from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames
from zipfs.store.objects.values import Area, Entry, Inode, InodeId, State
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class WrittenPlan:
    """Which files of the served tree are to be sealed, and which wait for another name."""

    ready: list[Inode]
    unfinished: list[Inode]


def plan_written(catalog: Catalog, inode_ids: Iterable[InodeId], names: UnfinishedNames = STANDARD) -> WrittenPlan:
    """Plan the seals of those of some inodes that are open content of the served tree.

    One whose names all say that it is not done yet will be given another, and what it holds may be known by that: it
    waits. What a tool keeps for itself, such as `.git`, is compressed as everything else.
    """
    plan = WrittenPlan([], [])
    with catalog.snapshot():
        for inode_id in inode_ids:
            try:
                inode = catalog.inode(inode_id)
            except NotFound:
                continue  # removed since
            served = [entry for entry in catalog.entries_of(inode_id) if entry.area is Area.SERVED]
            if inode.state is not State.OPEN or not served:
                continue
            is_unfinished = all(_is_unfinished(catalog, entry, names) for entry in served)
            (plan.unfinished if is_unfinished else plan.ready).append(inode)
    return plan


def _is_unfinished(catalog: Catalog, entry: Entry, names: UnfinishedNames) -> bool:
    parent = tree.path_of(catalog, entry.parent_id)
    path = b"/".join(filter(None, (parent, entry.name)))
    if names.keeper(path):
        return False
    return names.covers(path, stands_beside=lambda name: catalog.entry(entry.parent_id, name) is not None)


def seal_written(
    store: Store, inodes: Iterable[Inode], writing: Callable[[], Collection[InodeId]] = lambda: ()
) -> list[Inode]:
    """Seal files of the served tree that are open content; returns those that are new in the queue.

    What was planned may be out of date: nothing is done to what `writing` names by its spool file, or what is gone.
    """
    faults.point("seal-written.begin")
    sealed = []
    with store.transaction(fault="seal-written") as txn:
        for planned in inodes:
            try:
                inode = txn.catalog.inode(planned.id)
            except NotFound:
                continue
            if inode.state is not State.OPEN or inode.spool_number in writing():
                continue
            if not txn.catalog.has_name_in(inode.id, under_ingest=False):
                continue
            found = _spool_stat(store, inode)
            state = transition(inode.state, Area.SERVED, Event.SEAL).state
            mtime_ns = bounded_time_ns(found.st_mtime_ns)
            # What was written has moved its ctime, too, and that never goes back.
            ctime_ns = max(inode.ctime_ns, mtime_ns if mtime_ns <= tree.now_ns() else 0)
            inode = replace(inode, state=state, nbytes=found.st_size, mtime_ns=mtime_ns, ctime_ns=ctime_ns)
            txn.put_inode(inode)
            txn.clear_failure(inode.id)
            sealed.append(inode)
    return sealed


def _spool_stat(store: Store, inode: Inode) -> os.stat_result:
    """Return what a spool file is like, made where a kill between a file's row and its spool file has left none."""
    path = store.spool_path(inode)
    if not path.exists():
        path.touch(mode=0o600)
    return os.stat(path)
