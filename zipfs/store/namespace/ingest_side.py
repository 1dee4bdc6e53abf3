"""The ingest namespace: what can be done below `ingest/`, where new content is written.

New files are PENDING entries of OPEN inodes. Once sealed, the entry lingers beside the served one, so that whoever
looks again finds what it wrote for as long as that is served. Sealed content never changes: opening it for writing
gives its names below `ingest/` to a new inode (`writing.py`). Removing a name here never removes a served one by itself
(`removed.py`); moving a lingering entry moves the served one along, as long as it still is the same file.

These functions run inside a transaction of the caller and raise PathError; raw content is freed by the caller
afterwards. Which step may follow which is in `lifecycle.py`.
"""

from __future__ import annotations

from zipfs.errors import AlreadyExists, InvalidMove, IsADirectory, NotADirectory, NotFound
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import interrupted, removed, tree
from zipfs.store.namespace.lifecycle import Effect, Event, transition
from zipfs.store.objects.values import INGEST_ROOT, Entry, Inode, InodeId, Kind


def check_name(parent_id: InodeId, name: bytes) -> None:
    """Names that a mount uses itself cannot be ingested at the top."""
    if parent_id == INGEST_ROOT and name in tree.RESERVED_AT_ROOT:
        raise AlreadyExists(name)


def create(
    txn: Transaction,
    parent_id: InodeId,
    name: bytes,
    kind: Kind,
    mode: int,
    uid: int,
    gid: int,
    target: bytes | None = None,
) -> Inode:
    """Make a file, directory or symlink below `ingest/`. Raises NotFound for a parent that is gone."""
    check_name(parent_id, name)
    event = Event.CREATE if kind is Kind.FILE else Event.MAKE
    inode = tree.make(txn, parent_id, name, kind, event, mode, uid, gid, target)
    removed.note_made(txn, parent_id, name, inode)
    return inode


def unlink(txn: Transaction, parent_id: InodeId, name: bytes) -> Inode | None:
    """Remove the name of a file or symlink; returns the inode if that was its last name. What is served stays."""
    interrupted.forget(txn, tree.require(txn.catalog, parent_id, name).inode_id)
    gone = tree.unlink(txn, parent_id, name)
    removed.note_removed(txn, parent_id, name)
    return gone


def rmdir(txn: Transaction, parent_id: InodeId, name: bytes) -> None:
    """Remove an empty directory. What is served stays."""
    tree.rmdir(txn, parent_id, name)
    removed.note_removed(txn, parent_id, name)


def link(txn: Transaction, inode: Inode, parent_id: InodeId, name: bytes) -> Inode:
    """Another name for a file."""
    check_name(parent_id, name)
    if inode.is_directory:
        raise InvalidMove(name, "a directory has one name only")
    tree.link(txn, parent_id, name, inode, Event.LINK)
    removed.note_made(txn, parent_id, name, inode)
    return txn.catalog.inode(inode.id)


def mark_changed(txn: Transaction, inode: Inode) -> None:
    """Attributes of a directory below `ingest/` have changed: its next seal copies them."""
    if inode.is_directory:
        for entry in txn.catalog.entries_of(inode.id):
            tree.put_area(txn, entry, inode.state, Event.CHANGE)


def rename(txn: Transaction, parent_id: InodeId, name: bytes, new_parent_id: InodeId, new_name: bytes) -> list[Inode]:
    """Move a name within `ingest/`; returns the inodes that lost their last name."""
    check_name(new_parent_id, new_name)
    catalog = txn.catalog
    moving = catalog.inode(tree.require(catalog, parent_id, name).inode_id)
    old_path, new_path = (
        tree.path_of(catalog, parent) + b"/" + leaf for parent, leaf in ((parent_id, name), (new_parent_id, new_name))
    )
    replaced = catalog.entry(new_parent_id, new_name)
    for inode_id in [inode.id for _, inode in tree.walk(catalog, moving)] + ([replaced.inode_id] if replaced else []):
        interrupted.forget(txn, inode_id)
    gone = tree.rename(txn, parent_id, name, new_parent_id, new_name)
    lost = [gone] if gone is not None else []
    if (
        replaced is not None and moving.is_directory
    ):  # an empty directory has gone, and what it was to replace is served
        removed.note_removed(txn, new_parent_id, new_name)
    removed.note_made(txn, new_parent_id, new_name, moving)
    for relative, entry in _lingering_below(catalog, moving, new_parent_id, new_name):
        lost += removed.replace_served(txn, entry.parent_id)
        lost += _move_served(txn, entry, old_path + relative, new_path + relative)
    if moving.is_directory:
        for _, directory in tree.walk(catalog, moving):
            mark_changed(txn, directory)
        _prune_served(txn, old_path)
    removed.note_removed(txn, parent_id, name)
    return lost


def exchange(txn: Transaction, parent_id: InodeId, name: bytes, new_parent_id: InodeId, new_name: bytes) -> list[Inode]:
    """Swap two names within `ingest/`: each moves to the other's place as by `rename`, and what is served of it too."""
    check_name(parent_id, name)
    check_name(new_parent_id, new_name)
    for parent, leaf in ((parent_id, name), (new_parent_id, new_name)):
        tree.require(txn.catalog, parent, leaf)
    aside = b".zipfs-exchange-%d" % txn.new_inode_id()
    gone = rename(txn, parent_id, name, parent_id, aside)
    gone += rename(txn, new_parent_id, new_name, parent_id, name)
    return gone + rename(txn, parent_id, aside, new_parent_id, new_name)


def _lingering_below(catalog: Catalog, moved: Inode, parent_id: InodeId, name: bytes) -> list[tuple[bytes, Entry]]:
    """Return (path below the moved name, entry) of each file or symlink at or below it whose served name follows."""

    def follows(entry: Entry, inode: Inode) -> bool:
        return Effect.MOVE_SERVED in transition(inode.state, entry.area, Event.RENAME).effects

    if not moved.is_directory:
        entry = tree.require(catalog, parent_id, name)
        return [(b"", entry)] if follows(entry, moved) else []
    found: list[tuple[bytes, Entry]] = []
    pending = [(b"", moved.id)]
    while pending:
        prefix, directory = pending.pop()
        for entry, child in catalog.children(directory):
            if child.is_directory:
                pending.append((prefix + b"/" + entry.name, child.id))
            elif follows(entry, child):
                found.append((prefix + b"/" + entry.name, entry))
    return found


def _move_served(txn: Transaction, lingering: Entry, old_path: bytes, new_path: bytes) -> list[Inode]:
    """Let the served name follow the move of its lingering entry; where it cannot, that is sealed anew."""
    catalog = txn.catalog
    old_parts, new_parts = tree.components(old_path), tree.components(new_path)
    try:
        old_parent = tree.resolve(catalog, b"/".join(old_parts[:-1]))
        served = catalog.entry(old_parent.id, old_parts[-1])
        if served is None or served.inode_id != lingering.inode_id:
            raise AlreadyExists(old_path)
        like = catalog.inode(lingering.parent_id)
        new_parent = tree.make_directories(txn, b"/".join(new_parts[:-1]), like=like)
        gone = tree.rename(txn, old_parent.id, old_parts[-1], new_parent, new_parts[-1], Event.FOLLOW)
    except (AlreadyExists, NotADirectory, InvalidMove, NotFound, IsADirectory):
        tree.put_area(txn, lingering, catalog.inode(lingering.inode_id).state, Event.PART)
        return []
    return [gone] if gone is not None else []


def _prune_served(txn: Transaction, path: bytes) -> None:
    """Remove served directories that a move has left empty, from the bottom up."""
    try:
        top = tree.resolve(txn.catalog, path)
    except NotFound:
        return
    if not top.is_directory:
        return
    for _, inode in reversed(list(tree.walk(txn.catalog, top))):
        if inode.is_directory and txn.catalog.is_empty(inode.id):
            entry = tree.parent_entry(txn.catalog, inode.id)
            tree.rmdir(txn, entry.parent_id, entry.name, Event.REPLACE)
