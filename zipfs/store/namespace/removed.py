"""What was removed below `ingest/` and is served still, and what becomes of it.

Removing a name below `ingest/` removes nothing that is served. What is written in its place is a new version, though,
and that must not be mixed with the old one: a directory that is made anew replaces the served one as a whole, and the
files that were removed from the directory of a model, or of a part of it, leave the served one when new files of it are
sealed. In a folder of models, each file stands for itself: there they stay.

Marks on the directories below `ingest/` remember it. They are extended attributes that nobody sees.
"""

from __future__ import annotations

from typing import Final

from zipfs.errors import PathError
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import INGEST_ROOT, Area, Entry, Inode, InodeId

_REMOVED: Final = b"zipfs.removed:"
"""With a name behind it: what was removed from a directory under that name. The value is the inode that is served."""
_REPLACES: Final = b"zipfs.replaces"
"""Of a directory: the inode that was served in its place when it was made."""


def note_removed(txn: Transaction, parent_id: InodeId, name: bytes) -> None:
    """Remember that a name has gone from a directory below `ingest/`, if something is served there."""
    served = _served_entry(txn.catalog, parent_id, name)
    if served is not None:
        txn.put_xattr(parent_id, _REMOVED + name, b"%d" % served.inode_id)


def note_made(txn: Transaction, parent_id: InodeId, name: bytes, inode: Inode) -> None:
    """Remember that a name was made anew in a directory below `ingest/`, and leads to `inode`."""
    mark = txn.catalog.mark(parent_id, _REMOVED + name)
    if mark is None:
        return
    if inode.is_directory:
        txn.put_xattr(inode.id, _REPLACES, mark)
    elif _is_directory(txn.catalog, mark):
        return  # the file can be served once the directory has made way
    txn.drop_xattr(parent_id, _REMOVED + name)


def replace_served(txn: Transaction, directory: InodeId) -> list[Inode]:
    """Remove what a directory below `ingest/`, or one above it, was made anew for; returns the inodes that are gone.

    To be called before something of it gets its served name.
    """
    above: list[Entry] = []
    while directory != INGEST_ROOT:
        entry = tree.parent_entry(txn.catalog, directory)
        above.append(entry)
        directory = entry.parent_id
    gone: list[Inode] = []
    for entry in reversed(above):
        mark = txn.catalog.mark(entry.inode_id, _REPLACES)
        if mark is not None:
            gone += _remove_served(txn, entry.parent_id, entry.name, mark)
            txn.drop_xattr(entry.inode_id, _REPLACES)
            _serve_directories(txn, entry)
    return gone


def _serve_directories(txn: Transaction, top: Entry) -> None:
    """Serve the directories at and below a name of `ingest/` that were sealed into what has just been replaced."""
    path = b"/".join(filter(None, (tree.path_of(txn.catalog, top.parent_id), top.name)))
    for at, inode in tree.walk(txn.catalog, txn.catalog.inode(top.inode_id), path):
        if inode.is_directory and tree.parent_entry(txn.catalog, inode.id).area is Area.LINGERING:
            tree.make_directories(txn, at, like=inode)


def replace_served_directory(txn: Transaction, parent_id: InodeId, name: bytes) -> list[Inode]:
    """Remove the served directory in whose place a file was made; returns the inodes that are gone."""
    mark = txn.catalog.mark(parent_id, _REMOVED + name)
    if mark is None:
        return []
    txn.drop_xattr(parent_id, _REMOVED + name)
    return _remove_served(txn, parent_id, name, mark)


def remove_served_files(txn: Transaction, directory: InodeId) -> list[Inode]:
    """Remove the served files that were removed from a directory below `ingest/`; returns the inodes that are gone.

    To be called for the directory of a model when new files of it were sealed. Directories in it stay: other models may
    be in them.
    """
    gone: list[Inode] = []
    for key, mark in txn.catalog.marks(directory, _REMOVED).items():
        name = key.removeprefix(_REMOVED)
        if _is_directory(txn.catalog, mark):
            continue
        if txn.catalog.entry(directory, name) is None:
            gone += _remove_served(txn, directory, name, mark)
        txn.drop_xattr(directory, key)
    return gone


def _is_directory(catalog: Catalog, mark: bytes) -> bool:
    try:
        return catalog.inode(InodeId(int(mark))).is_directory
    except PathError:
        return False


def _served_entry(catalog: Catalog, parent_id: InodeId, name: bytes) -> Entry | None:
    try:
        parent = tree.resolve(catalog, tree.path_of(catalog, parent_id))
    except PathError:
        return None
    return catalog.entry(parent.id, name)


def _remove_served(txn: Transaction, parent_id: InodeId, name: bytes, mark: bytes) -> list[Inode]:
    """Remove a served name, unless another inode is served there by now than when the mark was made.

    What is below `ingest/` at that path by now is the new version, and stays.
    """
    served = _served_entry(txn.catalog, parent_id, name)
    if served is None or served.inode_id != int(mark):
        return []
    return tree.remove_tree(txn, served.parent_id, name, Event.REPLACE)
