"""Inode numbers as the kernel sees them. Pure.

The same inode can be reached in the served tree and below `ingest/`. It has a number in each, because only one of the
two may ever turn into another file under the same open name (`supersede`), and the kernel keeps pages by number.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyfuse3 import InodeT

from zipfs.store.objects.values import INGEST_ROOT, InodeId

INGEST = b"ingest"
"""What `INGEST_ROOT` is called in the root."""
VIRTUAL_DIRECTORY = InodeT(1 << 62)
"""`.zipfs`; its files follow."""


@dataclass(frozen=True, slots=True)
class Place:
    """An inode, and the side on which it was found."""

    inode_id: InodeId
    under_ingest: bool

    @property
    def number(self) -> InodeT:
        return InodeT(2 * self.inode_id - (not self.under_ingest))

    def beside(self, inode_id: InodeId) -> Place:
        """Another inode found on the same side; `ingest/` itself is the way over."""
        return Place(inode_id, self.under_ingest or inode_id == INGEST_ROOT)


def place(number: InodeT) -> Place:
    return Place(InodeId((number + 1) // 2), number % 2 == 0)


def numbers(inode_id: InodeId) -> tuple[InodeT, InodeT]:
    """Both numbers of an inode."""
    return Place(inode_id, False).number, Place(inode_id, True).number
