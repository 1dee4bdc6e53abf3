"""The removal of names from the tree, and of the raw content that goes with the last name of a file.

Stored content stays in its packs until a collection finds that nothing needs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from zipfs.errors import PathError
from zipfs.store.directory import RESERVE
from zipfs.store.disk import faults
from zipfs.store.disk.files import open_file, sync_directory
from zipfs.store.disk.reserve import Reserve
from zipfs.store.disk.stopping import Stop
from zipfs.store.namespace import tree
from zipfs.store.objects.values import Inode
from zipfs.store.store import Store, open_store


def sync_spool(store: Store, inodes: Iterable[Inode]) -> None:
    """Have spool files, and every committed transaction, on the disk: what they take the place of may go then.

    A power cut must not take the old content and the new one. Files that are not there are passed over.
    """
    for inode in inodes:
        with suppress(FileNotFoundError):
            fd = open_file(store.spool_path(inode))
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    sync_directory(store.spool_directory)
    store.sync()


def free_spool(store: Store, gone: Iterable[Inode]) -> None:
    """Delete the spool files of inodes that are gone. Whoever has one open can still read it."""
    for inode in gone:
        if inode.is_spooled:
            store.spool_path(inode).unlink(missing_ok=True)


def open_to_remove(path: Path, stop: Stop | None = None) -> Store:
    """Open a store to remove something, even on a full disk: the reserved space is given up if it is needed.

    The next mount reserves it again.
    """
    return Reserve(path / RESERVE).removing(lambda: open_store(path, stop=stop))


def remove(store: Store, path: bytes) -> list[Inode]:
    """Remove a path of the served tree and all below it; return the inodes that are gone. Raises PathError."""
    *parents, name = tree.components(path) or [b""]
    if not name:
        raise PathError("/", "the top of a store cannot be removed")
    parent = tree.resolve(store.catalog, b"/".join(parents))

    def work() -> list[Inode]:
        with store.transaction(durable=True, fault="delete") as txn:
            tree.forget_lingering(txn, parent.id, name)
            return tree.remove_tree(txn, parent.id, name)

    gone = store.reserve.removing(work)
    free_spool(store, gone)
    faults.point("delete.spool-freed")
    return gone
