"""Inode numbers as the kernel sees them. Pure.

The same inode can be reached in the served tree and below `ingest/`. It has a number in each, because only one of the
two may ever turn into another file under the same open name, and the kernel keeps pages by number.
"""

from __future__ import annotations

from pyfuse3 import InodeT

from zipfs.store.objects.values import InodeId
from zipfs.vfs.place import Place

VIRTUAL_DIRECTORY = InodeT(1 << 62)
"""`.zipfs`; its files follow."""


def number_of(where: Place) -> InodeT:
    return InodeT(2 * where.inode_id - (not where.under_ingest))


def place(number: InodeT) -> Place:
    return Place(InodeId((number + 1) // 2), number % 2 == 0)


def numbers(inode_id: InodeId) -> tuple[InodeT, InodeT]:
    """Return both numbers of an inode."""
    return number_of(Place(inode_id, False)), number_of(Place(inode_id, True))
