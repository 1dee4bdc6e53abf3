"""The seal of files that were written in the served tree: each by itself, once nobody writes to it any more.

They are served already. Sealing says that their content is final until somebody opens them for writing again, and that
it can be compressed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from zipfs.errors import CatalogDamaged, Damaged, NotFound
from zipfs.host import bounded_time_ns
from zipfs.ingest.spool import stat_spool_file
from zipfs.store.catalog.queries import Catalog
from zipfs.store.disk import faults
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event, transition
from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames
from zipfs.store.objects.values import Area, Entry, Inode, InodeId, State
from zipfs.store.store import Store

log = logging.getLogger(__name__)


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
                served = [entry for entry in catalog.entries_of(inode_id) if entry.area is Area.SERVED]
                if inode.state is not State.OPEN or not served:
                    continue
                is_unfinished = all(_is_unfinished(catalog, entry, names) for entry in served)
            except NotFound:
                continue  # removed since
            except CatalogDamaged as error:
                log.error("a file that was written in place is not sealed: %s", error)
                continue
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

    What was planned may be out of date: nothing is done to what `writing` names by its spool file, or what is gone. One
    that is damaged keeps no other back.
    """
    faults.point("seal-written.begin")
    sealed = []
    with store.transaction(fault="seal-written") as txn:
        written = writing()
        for planned in inodes:
            try:
                inode = txn.catalog.inode(planned.id)
                if inode.state is not State.OPEN or inode.spool_number in written:
                    continue
                if not txn.catalog.has_name_in(inode.id, under_ingest=False):
                    continue
                found = stat_spool_file(store, inode)
            except NotFound:
                continue
            except Damaged as error:
                log.error("a file that was written in place is not sealed: %s", error)
                continue
            state = transition(inode.state, Area.SERVED, Event.SEAL).state
            mtime_ns = bounded_time_ns(found.st_mtime_ns)
            # What was written has moved its ctime, too, and that never goes back.
            ctime_ns = max(inode.ctime_ns, mtime_ns if mtime_ns <= tree.now_ns() else 0)
            inode = replace(inode, state=state, nbytes=found.st_size, mtime_ns=mtime_ns, ctime_ns=ctime_ns)
            txn.put_inode(inode)
            txn.clear_failure(inode.id)
            sealed.append(inode)
    return sealed
