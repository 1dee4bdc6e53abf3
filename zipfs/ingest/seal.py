"""The seal: what happens when what was copied in is taken as finished.

The files of one model appear in the served tree, still read from the spool, in one transaction; a file that was at the
same path before is replaced, and whoever has it open keeps it. `seal_plan.py` says what is sealed together, and when.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from zipfs.errors import IsADirectory, PathError
from zipfs.host import bounded_time_ns
from zipfs.ingest.seal_plan import Held, Pending
from zipfs.ingest.spool import stat_spool_file
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.maintenance.remove import free_spool, sync_spool
from zipfs.store.namespace import removed, tree
from zipfs.store.namespace.attributes import attributes_of, put_attributes
from zipfs.store.namespace.lifecycle import Event, transition
from zipfs.store.namespace.models import Units
from zipfs.store.namespace.unfinished import STANDARD
from zipfs.store.objects.values import INGEST_ROOT, Area, Inode, InodeId
from zipfs.store.store import Store


def seal(
    store: Store, group: Sequence[Pending], writing: Callable[[], Collection[InodeId]] = lambda: ()
) -> list[Pending]:
    """Seal what belongs together; returns the files that are new in the queue.

    What was planned may be out of date: nothing is sealed if `writing` names one of the files by now, nor what has been
    moved or removed. One whose path is taken by a directory stays where it is, with the reason kept.
    """
    faults.point("seal.begin")
    if any(item.inode.spool_number in writing() for item in group):
        return []
    gone: list[Inode] = []
    sealed = []
    directories: set[InodeId] = set()
    with store.transaction(fault="seal") as txn:
        there = [item for item in group if _is_there(txn.catalog, item)]
        # Whose attributes go up: of directories that were changed, and of those without served counterparts.
        changed = {item.inode.id for item in there if item.inode.is_directory}
        changed |= _not_served(txn.catalog, {item.directory for item in there})
        for directory in {item.entry.parent_id for item in there if not item.inode.is_directory}:
            gone += removed.replace_served(txn, directory)
        for item in there:
            try:
                if item.inode.is_directory:
                    _seal_directory(txn, item)
                else:
                    gone += _seal_file(store, txn, item)
                    sealed.append(item)
                txn.clear_failure(item.inode.id)
                directories.add(item.directory)
            except PathError as error:
                transition(txn.catalog.inode(item.inode.id).state, item.entry.area, Event.SEAL_FAILS)
                txn.put_failure(item.inode.id, f"cannot be served at {os.fsdecode(item.path)}: {error}", tree.now_ns())
        units = Units(txn.catalog, STANDARD)
        for directory in {item.entry.parent_id for item in sealed}:
            if units.is_of_model(directory):
                gone += removed.remove_served_files(txn, directory)
        for directory in directories:
            _copy_attributes_up(txn, directory, changed)
    if any(inode.is_spooled for inode in gone):
        sync_spool(store, (item.inode for item in sealed))
    free_spool(store, gone)
    return sealed


def note_failure(store: Store, items: Iterable[Pending], why: Callable[[Pending], str]) -> None:
    """Remember why some files are not sealed. It is told until they are, or are gone."""
    with store.transaction() as txn:
        for item in items:
            if not item.inode.is_directory and _is_there(txn.catalog, item):
                transition(txn.catalog.inode(item.inode.id).state, item.entry.area, Event.SEAL_FAILS)
                txn.put_failure(item.inode.id, why(item), tree.now_ns())


def note_interrupted(store: Store, held: Held) -> bool:
    """Remember that a model waits because some of its files were cut off, of each file of which that is not noted.

    Return whether these files are still there.
    """
    cut = held.interrupted
    if not all(_is_there(store.catalog, item) for item in cut):
        return False
    files = [item for item in held.items if not item.inode.is_directory]
    fresh = [item for item in files if not store.catalog.has_failure(item.inode.id)]
    if not fresh:
        return True
    others = f"waits for {os.fsdecode(cut[0].path)}, which was being written when the mount ended"

    def why(item: Pending) -> str:
        if item not in cut:
            return others
        return (
            "was being written when the mount ended, and may be cut short. Write it again, or remove it; to take it as"
            f" it is, open and close it for writing: `: >> MOUNT/ingest/{os.fsdecode(item.path)}`"
        )

    note_failure(store, fresh, why)
    return True


def _is_there(catalog: Catalog, item: Pending) -> bool:
    if catalog.entry(item.entry.parent_id, item.entry.name) != item.entry:
        return False
    return b"/".join(filter(None, (tree.path_of(catalog, item.entry.parent_id), item.entry.name))) == item.path


def _seal_file(store: Store, txn: Transaction, item: Pending) -> list[Inode]:
    """Give the file or symlink its served name; returns the inode that it replaced, if that had no other name."""
    catalog = txn.catalog
    inode = catalog.inode(item.inode.id)
    parent = catalog.inode(item.entry.parent_id)
    name = item.entry.name
    served_parent = tree.make_directories(txn, os.path.dirname(item.path), like=parent)
    replaced = catalog.entry(served_parent, name)
    gone: list[Inode] = []
    if replaced is not None and replaced.inode_id != inode.id:
        if catalog.inode(replaced.inode_id).is_directory:
            gone = removed.replace_served_directory(txn, parent.id, name)
            if not gone:
                raise IsADirectory(item.path)
        else:
            last = tree.unlink(txn, served_parent, name, Event.REPLACE)
            gone = [last] if last is not None else []
        replaced = None
    state = transition(inode.state, item.entry.area, Event.SEAL).state
    if state is not inode.state:
        found = stat_spool_file(store, inode)
        mtime_ns = bounded_time_ns(found.st_mtime_ns)
        inode = replace(inode, state=state, nbytes=found.st_size, mtime_ns=mtime_ns)
        txn.put_inode(inode)
    if replaced is None:
        tree.link(txn, served_parent, name, inode, Event.SERVE)
    tree.put_area(txn, item.entry, state, Event.SEAL)
    return gone


def _seal_directory(txn: Transaction, item: Pending) -> None:
    """Copy a directory's attributes to the served one; an empty directory comes into being there."""
    if txn.catalog.is_empty(item.inode.id):
        tree.make_directories(txn, item.path, like=item.inode)
    elif _served_directory(txn.catalog, item.path) is None:
        return  # it holds only what is not finished
    tree.put_area(txn, item.entry, item.inode.state, Event.SEAL)


def _served_directory(catalog: Catalog, path: bytes) -> Inode | None:
    try:
        found = tree.resolve(catalog, path)
    except PathError:
        return None
    return found if found.is_directory else None


def _not_served(catalog: Catalog, directories: Iterable[InodeId]) -> set[InodeId]:
    """Find which of these directories below `ingest/`, and of those above them, have no served counterpart."""
    missing: set[InodeId] = set()
    for start in directories:
        directory = start
        while directory != INGEST_ROOT and directory not in missing:
            if _served_directory(catalog, tree.path_of(catalog, directory)) is not None:
                break
            missing.add(directory)
            directory = tree.parent_entry(catalog, directory).parent_id
    return missing


def _copy_attributes_up(txn: Transaction, directory: InodeId, changed: Collection[InodeId]) -> None:
    """Give the served counterparts of a directory below `ingest/` and of its parents the attributes of these, which
    are sealed with that.

    Of the parents too: a directory that was sealed first has had its mtime changed by those that came into it, and one
    that was left to its own time could by then be empty, with its served counterpart removed, and bring that back. What
    somebody has changed since in a served directory stays, but for the mtime, except of `changed` ones below `ingest/`:
    those that were changed later, or have only just got their counterparts.
    """
    while directory != INGEST_ROOT:
        like = txn.catalog.inode(directory)
        entry = tree.parent_entry(txn.catalog, directory)
        served = _served_directory(txn.catalog, tree.path_of(txn.catalog, directory))
        if served is not None:
            if entry.area is Area.PENDING or directory in changed:
                if entry.area is Area.PENDING:
                    tree.put_area(txn, entry, like.state, Event.SEAL)
                put_attributes(txn, served, attributes_of(txn.catalog, like))
            elif served.mtime_ns != like.mtime_ns:
                txn.put_inode(replace(served, mtime_ns=like.mtime_ns))
        directory = entry.parent_id
