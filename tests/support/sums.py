"""Checksums of rows, from the values that they hold."""

from __future__ import annotations

from zipfs.store.objects.columns import ENTRIES, INODES, inode_row_sum, row_sum
from zipfs.store.objects.values import Entry, Inode


def inode_sum(inode: Inode) -> int:
    return inode_row_sum(INODES.row_of(inode))


def entry_sum(entry: Entry) -> int:
    return row_sum(ENTRIES.row_of(entry))
