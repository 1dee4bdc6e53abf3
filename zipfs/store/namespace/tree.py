"""Operations on the tree, in terms of POSIX: what links, moves and removals do to rows.

Two trees share one set of inodes: the served one below `ROOT`, and the one below `INGEST_ROOT` in which new content is
written. An inode vanishes with its last entry. These functions run inside a transaction and raise errors of
`PathError`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace

from zipfs.errors import (
    AlreadyExists,
    CatalogDamaged,
    InvalidMove,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotEmpty,
    NotFound,
    PathError,
)
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace.attributes import attributes_of, put_attributes
from zipfs.store.namespace.lifecycle import ABSENT, Event, transition
from zipfs.store.objects.values import INGEST_ROOT, NAME_NBYTES_AT_MOST, ROOT, Area, Entry, Inode, InodeId, Kind, State

RESERVED_AT_ROOT = (b"ingest", b".zipfs")
"""Names at the top of a mount that it uses itself."""


def now_ns() -> int:
    return time.time_ns()


def require(catalog: Catalog, parent_id: InodeId, name: bytes) -> Entry:
    entry = catalog.entry(parent_id, name)
    if entry is None:
        raise NotFound(name)
    return entry


def resolve(catalog: Catalog, path: bytes, start: InodeId = ROOT) -> Inode:
    """Return the inode at a path of the served tree (or below `start`), following no symlinks. Raises PathError."""
    inode = catalog.inode(start)
    for name in components(path):
        if not inode.is_directory:
            raise NotADirectory(path)
        entry = catalog.entry(inode.id, name)
        if entry is None:
            raise NotFound(path)
        inode = catalog.inode(entry.inode_id)
    return inode


def components(path: bytes) -> list[bytes]:
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise PathError(path, "'..' is not taken here: name the path from the top of the store")
    return parts


def path_of(catalog: Catalog, inode_id: InodeId) -> bytes:
    """Return the path of a directory below its root, without a leading slash; b"" for a root itself."""
    return b"/".join(reversed([entry.name for entry in ancestry(catalog, inode_id)]))


def ancestry(catalog: Catalog, inode_id: InodeId) -> Iterator[Entry]:
    """Yield the entries that lead to a directory, the last one first; none for a root. Raises CatalogDamaged for a
    directory that lies below itself.
    """
    seen: set[InodeId] = set()
    while inode_id not in (ROOT, INGEST_ROOT):
        if inode_id in seen:
            raise CatalogDamaged(f"directory {inode_id} lies below itself")
        seen.add(inode_id)
        entry = parent_entry(catalog, inode_id)
        yield entry
        inode_id = entry.parent_id


def parent_entry(catalog: Catalog, directory: InodeId) -> Entry:
    """Return the one name of a directory that is no root. Raises NotFound."""
    entries = catalog.entries_of(directory)
    if not entries:
        raise NotFound(f"inode {directory}")
    return entries[0]


def served_path(catalog: Catalog, inode_id: InodeId) -> bytes:
    """Return a path at which an inode is served, or will be; b"" if it has no name."""
    names = sorted(catalog.entries_of(inode_id), key=lambda entry: entry.area is not Area.SERVED)
    if not names:
        return b""
    return b"/".join(filter(None, (path_of(catalog, names[0].parent_id), names[0].name)))


def walk(catalog: Catalog, start: Inode, path: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
    """Yield (path, inode) of a directory and everything below it, parents first, in order of name. Raises
    CatalogDamaged for a directory that has two names: it may lie below itself.
    """
    pending = [(path, start)]
    seen: set[InodeId] = set()
    while pending:
        path, inode = pending.pop()
        if inode.id in seen:
            raise CatalogDamaged(f"directory {inode.id} has more than one name")
        yield path, inode
        if inode.is_directory:
            seen.add(inode.id)
            found = [
                (path + b"/" + entry.name if path else entry.name, child) for entry, child in catalog.children(inode.id)
            ]
            pending.extend(reversed(found))


def new_inode(
    txn: Transaction, kind: Kind, event: Event, mode: int, uid: int, gid: int, target: bytes | None = None
) -> Inode:
    """Put the inode that `event` makes; the caller gives it a name in the same transaction."""
    state = transition(ABSENT, ABSENT, event).state
    now = now_ns()
    nbytes = 0 if target is None else len(target)
    inode = Inode(txn.new_inode_id(), kind, state, mode & 0o7777, uid, gid, nbytes, now, now, target, atime_ns=now)
    txn.put_inode(inode)
    return inode


def owned_in(parent: Inode, kind: Kind, mode: int, gid: int) -> tuple[int, int]:
    """Return mode and group of what is made in a directory: one with the set-group-id bit hands on its group, and to
    directories the bit.
    """
    if not parent.mode & stat.S_ISGID:
        return mode, gid
    return (mode | stat.S_ISGID if kind is Kind.DIRECTORY else mode), parent.gid


def check_name(name: bytes) -> None:
    if len(name) > NAME_NBYTES_AT_MOST:
        raise NameTooLong(name)


def touch_directory(txn: Transaction, inode_id: InodeId) -> None:
    """Move the times of a directory: what it holds has changed."""
    now = now_ns()
    txn.put_inode(replace(txn.catalog.inode(inode_id), mtime_ns=now, ctime_ns=now))


def make(
    txn: Transaction,
    parent_id: InodeId,
    name: bytes,
    kind: Kind,
    event: Event,
    mode: int,
    uid: int,
    gid: int,
    target: bytes | None = None,
) -> Inode:
    """Put an inode with a name, as `event` makes both. Raises NotFound for a parent that is gone."""
    own_mode, own_gid = owned_in(txn.catalog.inode(parent_id), kind, mode, gid)
    inode = new_inode(txn, kind, event, own_mode, uid, own_gid, target)
    _put_name(txn, parent_id, name, inode, transition(ABSENT, ABSENT, event).area)
    return inode


def link(txn: Transaction, parent_id: InodeId, name: bytes, inode: Inode, event: Event) -> None:
    """Give an inode a name that is not taken yet; `event` is LINK or SERVE."""
    _put_name(txn, parent_id, name, inode, transition(inode.state, ABSENT, event).area)


def _put_name(txn: Transaction, parent_id: InodeId, name: bytes, inode: Inode, area: Area | None) -> None:
    """Put an entry where there is none. The first one of an inode is part of making it, each further one a change."""
    assert area is not None
    check_name(name)
    if not txn.catalog.inode(parent_id).is_directory:
        raise NotADirectory(name)
    if txn.catalog.entry(parent_id, name) is not None:
        raise AlreadyExists(name)
    if parent_id == ROOT and name in RESERVED_AT_ROOT:
        raise AlreadyExists(name)
    if txn.catalog.has_name(inode.id):
        txn.put_inode(replace(inode, ctime_ns=now_ns()))
    txn.put_entry(Entry(parent_id, name, inode.id, area))
    touch_directory(txn, parent_id)


def put_area(txn: Transaction, entry: Entry, state: State, event: Event) -> None:
    """Have an entry enter the area that an event leads to."""
    area = transition(state, entry.area, event).area
    assert area is not None
    if area is not entry.area:
        txn.put_entry(replace(entry, area=area))


def unlink(txn: Transaction, parent_id: InodeId, name: bytes, event: Event = Event.REMOVE) -> Inode | None:
    """Remove the name of a file or symlink; returns the inode if that was its last name."""
    entry = require(txn.catalog, parent_id, name)
    inode = txn.catalog.inode(entry.inode_id)
    if inode.is_directory:
        raise IsADirectory(name)
    transition(inode.state, entry.area, event)
    txn.drop_entry(parent_id, name)
    touch_directory(txn, parent_id)
    gone = drop_if_nameless(txn, inode)
    # Of names on the other side its link count says nothing, and so nothing has changed for those who look there.
    if gone is None and txn.catalog.has_name_in(inode.id, under_ingest=entry.area is not Area.SERVED):
        txn.put_inode(replace(inode, ctime_ns=now_ns()))
    return gone


def drop_if_nameless(txn: Transaction, inode: Inode) -> Inode | None:
    if txn.catalog.has_name(inode.id):
        return None
    left_to = txn.catalog.heirs(inode.id) if inode.layout_sum else []
    txn.drop_inode(inode.id)
    txn.attribute(left_to)
    return inode


def rmdir(txn: Transaction, parent_id: InodeId, name: bytes, event: Event = Event.REMOVE) -> None:
    """Remove an empty directory."""
    entry = require(txn.catalog, parent_id, name)
    inode = txn.catalog.inode(entry.inode_id)
    if not inode.is_directory:
        raise NotADirectory(name)
    if not txn.catalog.is_empty(inode.id):
        raise NotEmpty(name)
    transition(inode.state, entry.area, event)
    txn.drop_entry(parent_id, name)
    txn.drop_inode(inode.id)
    touch_directory(txn, parent_id)


def forget_lingering(txn: Transaction, parent_id: InodeId, name: bytes) -> None:
    """Drop the lingering entries of what a name of the served tree leads to, and of all that is below it.

    To be called when it is removed or moved: a lingering entry would let a second copy of the same files be skipped.
    """
    entry = require(txn.catalog, parent_id, name)
    path = path_of(txn.catalog, parent_id) + b"/" + name
    for at, inode in reversed(list(walk(txn.catalog, txn.catalog.inode(entry.inode_id), path))):
        if inode.is_directory:
            forget_lingering_directory(txn, at)
        else:
            forget_lingering_names(txn, inode)


def forget_lingering_names(txn: Transaction, inode: Inode) -> None:
    """Drop the lingering entries of a file or symlink."""
    for lingering in txn.catalog.lingering_entries_of(inode.id):
        transition(inode.state, lingering.area, Event.FORGET)
        txn.drop_entry(lingering.parent_id, lingering.name)


def forget_lingering_directory(txn: Transaction, path: bytes) -> None:
    """Drop the lingering entry of a directory, once nothing is left in it."""
    try:
        directory = resolve(txn.catalog, path, INGEST_ROOT)
    except PathError:
        return
    if directory.is_directory and directory.id != INGEST_ROOT and txn.catalog.is_empty(directory.id):
        entry = parent_entry(txn.catalog, directory.id)
        if entry.area is Area.LINGERING:
            rmdir(txn, entry.parent_id, entry.name, Event.FORGET)


def remove_tree(txn: Transaction, parent_id: InodeId, name: bytes, event: Event = Event.REMOVE) -> list[Inode]:
    """Remove a name and everything below it; returns the inodes that are gone."""
    gone: list[Inode] = []
    pending = [(parent_id, name)]
    while pending:
        parent_id, name = pending[-1]
        inode = txn.catalog.inode(require(txn.catalog, parent_id, name).inode_id)
        children = txn.catalog.children(inode.id) if inode.is_directory else []
        if children:
            pending += [(inode.id, child.name) for child, _ in children]
            continue
        if inode.is_directory:
            rmdir(txn, parent_id, name, event)
            gone.append(inode)
        else:
            last = unlink(txn, parent_id, name, event)
            gone += [last] if last is not None else []
        pending.pop()
    return gone


def rename(
    txn: Transaction,
    parent_id: InodeId,
    name: bytes,
    new_parent_id: InodeId,
    new_name: bytes,
    event: Event = Event.RENAME,
) -> Inode | None:
    """Move a name, replacing what is there as rename(2) does; returns the inode that lost its last name."""
    check_name(new_name)
    entry = require(txn.catalog, parent_id, name)
    inode = txn.catalog.inode(entry.inode_id)
    if new_parent_id == ROOT and new_name in RESERVED_AT_ROOT:
        raise AlreadyExists(new_name)
    if inode.is_directory and _is_below(txn.catalog, new_parent_id, inode.id):
        raise InvalidMove(name, "a directory cannot be moved into itself")
    area = transition(inode.state, entry.area, event).area
    assert area is not None
    gone: Inode | None = None
    replaced = txn.catalog.entry(new_parent_id, new_name)
    if replaced is not None:
        if replaced.inode_id == inode.id:
            return None  # two names of one file: rename(2) leaves both
        other = txn.catalog.inode(replaced.inode_id)
        makes_way = Event.REPLACE if event is Event.FOLLOW else Event.REMOVE
        if other.is_directory and not inode.is_directory:
            raise IsADirectory(new_name)
        if inode.is_directory and not other.is_directory:
            raise NotADirectory(new_name)
        if other.is_directory:
            rmdir(txn, new_parent_id, new_name, makes_way)
        else:
            gone = unlink(txn, new_parent_id, new_name, makes_way)
    txn.drop_entry(parent_id, name)
    txn.put_entry(Entry(new_parent_id, new_name, inode.id, area))
    for parent in {parent_id, new_parent_id}:
        touch_directory(txn, parent)
    txn.put_inode(replace(inode, ctime_ns=now_ns()))
    return gone


def exchange(txn: Transaction, parent_id: InodeId, name: bytes, new_parent_id: InodeId, new_name: bytes) -> None:
    """Swap two names (RENAME_EXCHANGE)."""
    one, other = require(txn.catalog, parent_id, name), require(txn.catalog, new_parent_id, new_name)
    for moving, into in ((one.inode_id, new_parent_id), (other.inode_id, parent_id)):
        if _is_below(txn.catalog, into, moving):
            raise InvalidMove(name, "a directory cannot be moved into itself")
    for entry in (one, other):
        transition(txn.catalog.inode(entry.inode_id).state, entry.area, Event.RENAME)
    txn.put_entry(replace(one, inode_id=other.inode_id, area=other.area))
    txn.put_entry(replace(other, inode_id=one.inode_id, area=one.area))
    for parent in {parent_id, new_parent_id}:
        touch_directory(txn, parent)
    for moved in {one.inode_id, other.inode_id}:
        txn.put_inode(replace(txn.catalog.inode(moved), ctime_ns=now_ns()))


def make_directories(txn: Transaction, path: bytes, like: Inode | None = None) -> InodeId:
    """Return the served directory at `path`, made with its parents where missing. Raises NotADirectory.

    What is made has the attributes of `like`; without, it is that of whoever runs this, as mkdir(1) -p would make it.
    """
    parent_id = ROOT
    for name in components(path):
        entry = txn.catalog.entry(parent_id, name)
        if entry is None:
            directory = make(txn, parent_id, name, Kind.DIRECTORY, Event.MAKE_SERVED, 0o755, os.getuid(), os.getgid())
            if like is not None:
                put_attributes(txn, directory, attributes_of(txn.catalog, like))
            parent_id = directory.id
        elif txn.catalog.inode(entry.inode_id).is_directory:
            parent_id = entry.inode_id
        else:
            raise NotADirectory(path)
    return parent_id


def _is_below(catalog: Catalog, inode_id: InodeId, ancestor: InodeId) -> bool:
    return inode_id == ancestor or any(entry.parent_id == ancestor for entry in ancestry(catalog, inode_id))
