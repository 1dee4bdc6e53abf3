"""The names of stored tensors, read from what their files hold besides tensors.

Files whose plain bytes are the same, as those of fine-tunes of one model often are, are taken apart once. What cannot
be read leaves its tensors without names. Used by one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from zipfs.errors import Damaged, NotFound
from zipfs.formats import Layout, lay_out
from zipfs.inspect.hub_names import HubNames
from zipfs.store.catalog.queries import retrying
from zipfs.store.frames.open_blob import OpenBlob, open_blob
from zipfs.store.namespace import tree
from zipfs.store.objects.values import Extent, Inode, InodeId
from zipfs.store.store import Store

_KEPT: Final = 64

_Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """How a stored file is laid out, as far as it can be read.

    `is_followed` if its extents do: a file that came in before its format was taken apart is stored otherwise.
    """

    layout: Layout
    is_followed: bool


class TensorNames:
    """Reads and remembers the layouts and names of a store's files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.hub = HubNames(store.catalog)
        self._opened: OpenBlob | None = None
        """The one that was read last: a parser reads small pieces of one blob."""
        self._layouts: OrderedDict[_Key, Layout | None] = OrderedDict()
        self._places: OrderedDict[InodeId, tuple[bytes, Layout | None]] = OrderedDict()

    def layout(self, inode: Inode, path: bytes) -> Layout | None:
        """Return the layout of a stored file; None if it cannot be read, or its extents do not follow it."""
        found = self.find(inode, path)
        return found.layout if found is not None and found.is_followed else None

    def find(self, inode: Inode, path: bytes) -> Found | None:
        """Return how a stored file is laid out; None if that cannot be read, or it is empty."""
        extents = self._store.catalog.extents(inode)
        if not extents:
            return None
        layout = self._laid_out(extents, inode, path)
        return None if layout is None else Found(layout, _follow(extents, layout))

    def _key(self, extents: tuple[Extent, ...], inode: Inode) -> _Key:
        """Return what determines a layout: where plain bytes are and which, and where items of which type are."""
        blobs = self._store.catalog.blobs_of(inode)
        dtypes = {blob_id: blob.dtype for blob_id, blob in blobs.items()}
        what = (dtypes.get(extent.blob_id) or (extent.blob_id, extent.blob_offset) for extent in extents)
        where = ((extent.offset, extent.nbytes) for extent in extents)
        return inode.nbytes, hash(tuple(zip(where, what, strict=True)))

    def _laid_out(self, extents: tuple[Extent, ...], inode: Inode, path: bytes) -> Layout | None:
        key = self._key(extents, inode)
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
        while at < len(extents) and extents[at].offset < end:
            extent = extents[at]
            start = max(offset, extent.offset)
            stop = min(end, extent.offset + extent.nbytes)
            parts.append(self._read_extent(extent, start - extent.offset, stop - start))
            at += 1
        return b"".join(parts)

    def _read_extent(self, extent: Extent, start: int, nbytes: int) -> bytes:
        store = self._store

        def read() -> bytes:
            opened = self._opened
            if opened is None or opened.blob.id != extent.blob_id:
                opened = open_blob(store.packs.open, store.catalog.blob(extent.blob_id), store.catalog.blob)
                self._opened = opened
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
