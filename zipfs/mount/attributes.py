"""Attributes of inodes as the kernel wants them."""

from __future__ import annotations

import os

import pyfuse3

from zipfs.mount.numbers import Place
from zipfs.serve.library import BLOCK_NBYTES, file_type
from zipfs.store.rows import Inode, InodeId, State
from zipfs.store.store import Store

LONG_S = 3600.0
"""What the kernel may believe without asking: a change is told to it (`feed.py`)."""
SHORT_S = 1.0
"""The same for a file that is being written."""
_IO_NBYTES = 1 << 20
_LISTING_NBYTES = 32 << 10
"""C libraries take it as a hint for the buffer of a listing, and the kernel asks for as much. A MiB of buffer for each
directory costs more than to fill it for a small one, and keeps everybody waiting for a large one.
"""


def describe(store: Store, where: Place, inode: Inode, names: int) -> pyfuse3.EntryAttributes:
    """`names`: how many names the inode has in both trees. Raises CatalogDamaged."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = where.number
    attributes.generation = 0
    attributes.entry_timeout = LONG_S
    attributes.attr_timeout = SHORT_S if inode.state is State.OPEN else LONG_S
    attributes.st_mode = pyfuse3.ModeT(file_type(inode) | inode.mode)
    attributes.st_uid = inode.uid
    attributes.st_gid = inode.gid
    attributes.st_rdev = 0
    attributes.st_blksize = _LISTING_NBYTES if inode.is_directory else _IO_NBYTES
    nbytes, stored_nbytes, mtime_ns = inode.nbytes, inode.stored_nbytes, inode.mtime_ns
    if inode.state in (State.OPEN, State.SEALED):
        try:
            found = os.stat(store.spool_path(inode.id))
        except FileNotFoundError:
            pass  # just created, or just compressed
        else:
            nbytes, stored_nbytes = found.st_size, found.st_blocks * BLOCK_NBYTES
            mtime_ns = found.st_mtime_ns if inode.state is State.OPEN else mtime_ns
    if where.under_ingest and inode.state is State.STORED:
        stored_nbytes = 0  # counted where it is served
    attributes.st_size = nbytes
    attributes.st_blocks = -(-stored_nbytes // BLOCK_NBYTES)
    attributes.st_atime_ns = attributes.st_mtime_ns = mtime_ns
    attributes.st_ctime_ns = max(inode.ctime_ns, mtime_ns if inode.state is State.OPEN else 0)
    # 1 tells find(1) that the link count of a directory does not count its subdirectories.
    attributes.st_nlink = 1 if inode.is_directory or names <= 1 else _links(store, where, inode.id)
    return attributes


def _links(store: Store, where: Place, inode_id: InodeId) -> int:
    return max(1, store.catalog.link_count(inode_id, under_ingest=where.under_ingest))


def describe_virtual(number: pyfuse3.InodeT, mode: int, nbytes: int, mtime_ns: int) -> pyfuse3.EntryAttributes:
    """Attributes of what exists in a mount only."""
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
    attributes.st_blocks = 0
    attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = mtime_ns
    return attributes
