"""The seal: when what was copied in is taken as finished, and what happens then.

A directory below `ingest/` is sealed when no handle can write to a file in it and nothing has happened in it for a
while. Its files then appear in the served tree, still read from the spool, in one transaction; a file that was at the
same path before is replaced, and whoever has it open keeps it. `plan_seals` decides (pure), `seal` carries out.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from zipfs.errors import IsADirectory, PathError
from zipfs.ingest.names import is_unfinished
from zipfs.store import faults, tree
from zipfs.store.catalog import Catalog
from zipfs.store.files import sync_directory
from zipfs.store.removal import free_spool
from zipfs.store.rows import INGEST_ROOT, Area, Entry, Inode, InodeId, State
from zipfs.store.store import Store
from zipfs.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry below `ingest/` that is not sealed; `path` is the one it will be served at."""

    entry: Entry
    inode: Inode
    path: bytes

    @property
    def directory(self) -> InodeId:
        """The directory whose quiet decides: a directory answers for itself."""
        return self.inode.id if self.inode.is_directory else self.entry.parent_id


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What to seal now, and what else there is."""

    ready: tuple[tuple[Pending, ...], ...]
    """One group per directory."""
    unfinished: tuple[Pending, ...]
    """Files whose names say that they are not done; they wait."""
    next_s: float | None
    """Seconds until the next directory may become ready; None if nothing is due by time alone."""


def find_pending(catalog: Catalog, directories: Iterable[InodeId] | None = None) -> list[Pending]:
    """Everything that is not sealed, or what of it these directories answer for; one that is gone has nothing left."""
    with catalog.snapshot():
        if directories is None:
            return _with_paths(catalog, catalog.pending())
        return _with_paths(catalog, chain.from_iterable(_answered_for(catalog, directory) for directory in directories))


def _answered_for(catalog: Catalog, directory: InodeId) -> Iterator[tuple[Entry, Inode]]:
    for entry in catalog.entries_of(directory):
        if entry.area is Area.PENDING:
            yield entry, catalog.inode(directory)
    for entry, inode in catalog.pending(directory):
        if not inode.is_directory:
            yield entry, inode


def _with_paths(catalog: Catalog, found: Iterable[tuple[Entry, Inode]]) -> list[Pending]:
    paths: dict[InodeId, bytes] = {}
    pending = []
    for entry, inode in found:
        if entry.parent_id not in paths:
            paths[entry.parent_id] = tree.path_of(catalog, entry.parent_id)
        prefix = paths[entry.parent_id]
        pending.append(Pending(entry, inode, prefix + b"/" + entry.name if prefix else entry.name))
    return pending


def plan_seals(
    pending: Iterable[Pending],
    writing: Collection[InodeId],
    last_change_s: Mapping[InodeId, float],
    now_s: float,
    quiet_s: float,
) -> SealPlan:
    """Group what is pending by directory and pick those that are quiet.

    `writing` holds inodes that some handle may still write to, `last_change_s` the time of the last change in a
    directory; one that is missing there has not changed for long.
    """
    groups: dict[InodeId, list[Pending]] = defaultdict(list)
    unfinished = []
    for item in pending:
        if is_unfinished(item.path):
            if not item.inode.is_directory:
                unfinished.append(item)
        else:
            groups[item.directory].append(item)
    ready = []
    next_s: float | None = None
    for directory, items in groups.items():
        if any(item.inode.id in writing for item in items):
            continue  # the release of that handle counts as a change
        remaining_s = last_change_s.get(directory, -quiet_s) + quiet_s - now_s
        if remaining_s <= 0:
            # Files first: they bring the served directory into being that the directory's attributes go to.
            ready.append(tuple(sorted(items, key=lambda item: item.inode.is_directory)))
        elif next_s is None or remaining_s < next_s:
            next_s = remaining_s
    return SealPlan(tuple(ready), tuple(unfinished), next_s)


def seal(
    store: Store, group: Sequence[Pending], writing: Callable[[], Collection[InodeId]] = lambda: ()
) -> list[Pending]:
    """Seal the entries of one directory; returns the files that are new in the queue.

    What was planned may be out of date: nothing is sealed if `writing` names one of the files by now, nor what has been
    moved or removed. One whose path is taken by a directory stays where it is, with a failure noted.
    """
    faults.point("seal.begin")
    if any(item.inode.id in writing() for item in group):
        return []
    gone: list[Inode] = []
    sealed = []
    directories: set[InodeId] = set()
    with store.transaction(fault="seal") as txn:
        for item in group:
            try:
                if not _is_there(txn.catalog, item):
                    continue
                if item.inode.is_directory:
                    _seal_directory(txn, item)
                else:
                    gone += _seal_file(store, txn, item)
                    sealed.append(item)
                txn.clear_failure(item.inode.id)
                directories.add(item.directory)
            except PathError as error:
                txn.put_failure(item.inode.id, f"cannot be served at {os.fsdecode(item.path)}: {error}", tree.now_ns())
        for directory in directories:
            _copy_attributes_up(txn, directory)
    if any(inode.state in (State.OPEN, State.SEALED) for inode in gone):
        _sync_spool(store, sealed)  # a power cut must not take the old version and the new one
    free_spool(store, gone)
    return sealed


def _is_there(catalog: Catalog, item: Pending) -> bool:
    if catalog.entry(item.entry.parent_id, item.entry.name) != item.entry:
        return False
    return b"/".join(filter(None, (tree.path_of(catalog, item.entry.parent_id), item.entry.name))) == item.path


def _sync_spool(store: Store, items: Iterable[Pending]) -> None:
    for item in items:
        with suppress(FileNotFoundError):
            fd = os.open(store.spool_path(item.inode.id), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    sync_directory(store.path / "spool")
    store.sync()


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
            raise IsADirectory(item.path)
        last = tree.unlink(txn, served_parent, name)
        gone = [last] if last is not None else []
        replaced = None
    if inode.state is State.OPEN:
        found = os.stat(_spool_file(store, inode.id))
        inode = replace(inode, state=State.SEALED, nbytes=found.st_size, mtime_ns=found.st_mtime_ns)
        txn.put_inode(inode)
    if replaced is None:
        tree.link(txn, served_parent, name, inode, Area.SERVED)
    txn.put_entry(replace(item.entry, area=Area.ECHO))
    return gone


def _seal_directory(txn: Transaction, item: Pending) -> None:
    """Copy a directory's attributes to the served one; an empty directory comes into being there."""
    if txn.catalog.is_empty(item.inode.id):
        tree.make_directories(txn, item.path, like=item.inode)
    elif _served_directory(txn.catalog, item.path) is None:
        return  # nothing of it is served yet; its files will bring it along
    txn.put_entry(replace(item.entry, area=Area.ECHO))


def _served_directory(catalog: Catalog, path: bytes) -> Inode | None:
    try:
        found = tree.resolve(catalog, path)
    except PathError:
        return None
    return found if found.is_directory else None


def _copy_attributes_up(txn: Transaction, directory: InodeId) -> None:
    """Give the served counterparts of a directory below `ingest/` and of its parents the attributes of these, which
    are sealed with that.

    Of the parents too: a directory that was sealed first has had its mtime changed by those that came into it, and one
    that was left to its own time could by then be empty, with its served counterpart removed, and bring that back.
    """
    while directory != INGEST_ROOT:
        like = txn.catalog.inode(directory)
        entry = tree.parent_entry(txn.catalog, directory)
        served = _served_directory(txn.catalog, tree.path_of(txn.catalog, directory))
        if served is not None:
            if entry.area is Area.PENDING:
                txn.put_entry(replace(entry, area=Area.ECHO))
            copied = replace(served, mode=like.mode, uid=like.uid, gid=like.gid, mtime_ns=like.mtime_ns)
            if copied != served:
                txn.put_inode(copied)
        directory = entry.parent_id


def _spool_file(store: Store, inode_id: InodeId) -> Path:
    """A kill between a file's row and its spool file leaves none; it is empty then."""
    path = store.spool_path(inode_id)
    if not path.exists():
        path.touch(mode=0o600)
    return path


def drop_echoes(store: Store, directories: Collection[InodeId]) -> int:
    """Drop the echoes in these directories whose files are compressed, and then the directories that are empty.

    Returns how many entries went.
    """
    dropped = 0
    with store.transaction() as txn:
        for directory in directories:
            for entry, inode in txn.catalog.children(directory):
                if entry.area is Area.ECHO and inode.state in (State.STORED, State.NONE) and not inode.is_directory:
                    txn.drop_entry(directory, entry.name)
                    tree.drop_if_nameless(txn, inode)
                    dropped += 1
        for directory in directories:
            dropped += _drop_empty(txn, directory, directories)
    return dropped


def _drop_empty(txn: Transaction, directory: InodeId, idle: Collection[InodeId]) -> int:
    """Remove an empty, sealed directory below `ingest/`, then its parents as far as they are idle too."""
    dropped = 0
    while directory != INGEST_ROOT and directory in idle and txn.catalog.is_empty(directory):
        names = txn.catalog.entries_of(directory)
        if len(names) != 1 or names[0].area is not Area.ECHO:
            break
        tree.rmdir(txn, names[0].parent_id, names[0].name)
        directory = names[0].parent_id
        dropped += 1
    return dropped
