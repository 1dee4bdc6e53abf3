"""Attributes of inodes as the kernel wants them."""

from __future__ import annotations

import os
import time

import pyfuse3

from zipfs.host import bounded_time_ns
from zipfs.library.library import BLOCK_NBYTES, file_type
from zipfs.mount.numbers import number_of
from zipfs.store.objects.values import Inode, InodeId, Kind, State
from zipfs.store.store import Store
from zipfs.vfs.place import Place

LONG_S = 3600.0
"""What the kernel may believe without asking: a change is told to it (`invalidator.py`)."""
SHORT_S = 1.0
"""What the kernel may believe so long of a file that is being written."""
_IO_NBYTES = 1 << 20
_LISTING_NBYTES = 32 << 10
"""C libraries take it as a hint for the buffer of a listing, and the kernel asks for as much. A MiB of buffer for each
directory costs more than to fill it for a small one, and keeps everybody waiting for a large one.
"""


def describe(
    store: Store, where: Place, inode: Inode, names: int, spooled: os.stat_result | None = None
) -> pyfuse3.EntryAttributes:
    """Return what the kernel is told of an inode. Raises CatalogDamaged.

    `names` says how many names it has in both trees, 0 of one that is unlinked and open; `spooled` is its spool file,
    which is looked for otherwise.
    """
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = number_of(where)
    attributes.generation = 0
    attributes.entry_timeout = LONG_S
    attributes.attr_timeout = SHORT_S if inode.state is State.OPEN else LONG_S
    attributes.st_mode = pyfuse3.ModeT(file_type(inode) | inode.mode)
    attributes.st_uid = inode.uid
    attributes.st_gid = inode.gid
    attributes.st_rdev = 0
    attributes.st_blksize = _LISTING_NBYTES if inode.is_directory else _IO_NBYTES
    nbytes, stored_nbytes, mtime_ns, ctime_ns = inode.nbytes, inode.stored_nbytes, inode.mtime_ns, inode.ctime_ns
    if inode.is_spooled:
        found = spooled or _spool_file(store, inode)
        if found is not None:
            nbytes = found.st_size
            stored_nbytes += found.st_blocks * BLOCK_NBYTES  # beside what shows through its holes
            if inode.state is State.OPEN:
                mtime_ns = bounded_time_ns(found.st_mtime_ns)
                # What is written moves it, too; a date that was set has moved it already, and may lie ahead.
                ctime_ns = max(ctime_ns, mtime_ns if mtime_ns <= time.time_ns() else 0)
    if where.under_ingest and inode.state is State.STORED:
        stored_nbytes = 0  # counted where it is served
    attributes.st_size = nbytes
    attributes.st_blocks = _blocks(nbytes if inode.kind is Kind.FILE else 0, stored_nbytes)
    attributes.st_atime_ns = mtime_ns if inode.atime_ns is None else inode.atime_ns
    attributes.st_mtime_ns = mtime_ns
    attributes.st_ctime_ns = ctime_ns
    # 1 tells find(1) that the link count of a directory does not count its subdirectories.
    attributes.st_nlink = min(names, 1) if inode.is_directory or names <= 1 else _links(store, where, inode.id)
    return attributes


def _spool_file(store: Store, inode: Inode) -> os.stat_result | None:
    try:
        return os.stat(store.spool_path(inode))
    except FileNotFoundError:
        return None  # just created, or just compressed


def _blocks(nbytes: int, stored_nbytes: int) -> int:
    """Return the blocks that storing a file takes, at least one for what is not empty.

    Archivers take a file without blocks for one hole, and put zeros in the place of content that costs nothing here.
    """
    return max(min(nbytes, 1), -(-stored_nbytes // BLOCK_NBYTES))


def _links(store: Store, where: Place, inode_id: InodeId) -> int:
    return max(1, store.catalog.link_count(inode_id, under_ingest=where.under_ingest))


def describe_virtual(number: pyfuse3.InodeT, mode: int, nbytes: int, mtime_ns: int) -> pyfuse3.EntryAttributes:
    """Return the attributes of what exists in a mount only."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = number
    attributes.generation = 0
    attributes.entry_timeout = LONG_S
    attributes.attr_timeout = 0.0
    attributes.st_mode = pyfuse3.ModeT(mode)
    attributes.st_nlink = 1
    attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
    attributes.st_rdev = 0
    attributes.st_size = nbytes
    attributes.st_blksize = 4096
    attributes.st_blocks = _blocks(nbytes, nbytes)
    attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = mtime_ns
    return attributes
