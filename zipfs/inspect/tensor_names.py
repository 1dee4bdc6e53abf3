"""The names of stored tensors, read from the headers of their files.

Files with one header, as fine-tunes of one model often have, are taken apart once. A header that cannot be read leaves
its tensors without names. Used by one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from zipfs.errors import Damaged, NotFound
from zipfs.formats import Layout, lay_out
from zipfs.inspect.hub_names import HubNames
from zipfs.store.catalog.queries import retrying
from zipfs.store.frames.open_blob import open_blob
from zipfs.store.namespace import tree
from zipfs.store.objects.values import Extent, Inode, InodeId
from zipfs.store.store import Store

_KEPT: Final = 64


class TensorNames:
    """Reads and remembers the layouts and names of a store's files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.hub = HubNames(store.catalog)
        self._layouts: OrderedDict[tuple[int, int], Layout | None] = OrderedDict()
        self._places: OrderedDict[InodeId, tuple[bytes, Layout | None]] = OrderedDict()

    def layout(self, inode: Inode, path: bytes) -> Layout | None:
        """Return the layout of a stored file; None if its header cannot be read, or its extents do not follow it."""
        extents = self._store.catalog.extents(inode)
        if not extents:
            return None
        layout = self._laid_out(extents, inode, path)
        return layout if layout is not None and _follow(extents, layout) else None

    def _laid_out(self, extents: tuple[Extent, ...], inode: Inode, path: bytes) -> Layout | None:
        key = int(extents[0].blob_id), inode.nbytes
        if key not in self._layouts:
            try:
                layout = lay_out(path, lambda offset, nbytes: self._read(extents, offset, nbytes), inode.nbytes)
            except Damaged:
                layout = None
            self._layouts[key] = layout
            if len(self._layouts) > _KEPT:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(key)
        return self._layouts[key]

    def at(self, inode_id: InodeId, offset: int) -> tuple[bytes, str | None]:
        """Return the path of a file, and the name of the tensor at an offset of it."""
        if inode_id not in self._places:
            path = self.hub.name(tree.served_path(self._store.catalog, inode_id))
            try:
                layout = self.layout(self._store.catalog.inode(inode_id), path)
            except NotFound:
                layout = None
            self._places[inode_id] = path, layout
            if len(self._places) > _KEPT:
                self._places.popitem(last=False)
        self._places.move_to_end(inode_id)
        path, layout = self._places[inode_id]
        if layout is None:
            return path, None
        return path, layout.spans[bisect_right(layout.spans, offset, key=lambda span: span.offset) - 1].name

    def _read(self, extents: tuple[Extent, ...], offset: int, nbytes: int) -> bytes:
        parts: list[bytes] = []
        end = offset + nbytes
        at = bisect_right(extents, offset, key=lambda extent: extent.offset) - 1
        for extent in extents[at:]:
            if extent.offset >= end:
                break
            start = max(offset, extent.offset)
            stop = min(end, extent.offset + extent.nbytes)
            parts.append(self._read_extent(extent, start - extent.offset, stop - start))
        return b"".join(parts)

    def _read_extent(self, extent: Extent, start: int, nbytes: int) -> bytes:
        store = self._store

        def read() -> bytes:
            opened = open_blob(store.packs.open, store.catalog.blob(extent.blob_id), store.catalog.blob)
            return bytes(store.frames.range(opened, extent.blob_offset + start, nbytes))

        return retrying(read)


def _follow(extents: tuple[Extent, ...], layout: Layout) -> bool:
    """Tell whether every extent lies within one span."""
    starts = [span.offset for span in layout.spans]
    for extent in extents:
        span = layout.spans[bisect_right(starts, extent.offset) - 1]
        if extent.offset + extent.nbytes > span.offset + span.nbytes:
            return False
    return True
