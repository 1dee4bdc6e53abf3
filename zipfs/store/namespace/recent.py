"""Which names a listing of `ingest/` shows. A name below it leads to what it led to for as long as that is served; but
a copy of the whole mount is not to take everything along twice, so what has long been finished is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable

from zipfs.errors import NotFound
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, Area, Inode, InodeId


def recent_names(catalog: Catalog, changed: Iterable[InodeId], since_ns: float, now_ns: int) -> set[bytes]:
    """Names at the top of `ingest/` at or below which something waits or has changed.

    `changed` are directories in which something has happened of late; `since_ns` is the time since when a change
    counts that only the inode of a name itself remembers.
    """
    with catalog.snapshot():
        tops: set[InodeId] = set()
        seen: set[InodeId] = set()
        for directory in (*changed, *catalog.pending_directories()):
            _climb(catalog, directory, seen, tops)
        return {
            entry.name
            for entry, inode in catalog.children(INGEST_ROOT)
            if entry.area is Area.PENDING or inode.id in tops or _changed_ns(inode, now_ns) >= since_ns
        }


def _climb(catalog: Catalog, directory: InodeId, seen: set[InodeId], tops: set[InodeId]) -> None:
    while directory != INGEST_ROOT and directory not in seen:
        seen.add(directory)
        try:
            parent_id = tree.parent_entry(catalog, directory).parent_id
        except NotFound:
            return  # it has gone
        if parent_id == INGEST_ROOT:
            tops.add(directory)
        directory = parent_id


def _changed_ns(inode: Inode, now_ns: int) -> int:
    """Return when an inode last changed; a date in the future says nothing."""
    return max(inode.ctime_ns, inode.mtime_ns if inode.mtime_ns <= now_ns else 0)
