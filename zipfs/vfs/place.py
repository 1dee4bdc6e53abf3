"""Where something is: an inode, and the tree in which it was found."""

from __future__ import annotations

from typing import NamedTuple

from zipfs.store.objects.values import INGEST_ROOT, ROOT, InodeId

INGEST = b"ingest"
"""What `INGEST_ROOT` is called in the root."""


class Place(NamedTuple):
    """An inode, found in the served tree or below `ingest/`."""

    inode_id: InodeId
    under_ingest: bool

    def beside(self, inode_id: InodeId) -> Place:
        """Return another inode found from here; `ingest/` itself is the way over, and the root the way back."""
        return Place(inode_id, (self.under_ingest or inode_id == INGEST_ROOT) and inode_id != ROOT)
