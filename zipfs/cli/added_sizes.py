"""What files added to a store, as `zipfs ls` lists it and `zipfs stat` sums it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipfs.library import Library, Node
    from zipfs.store.objects.values import InodeId


def added_by_file(library: Library, nodes: Sequence[Node]) -> dict[InodeId, int]:
    """Return for each file its share of the packs, or its bytes in the spool. Raises CatalogDamaged."""
    stored = [one.inode.id for one in nodes if one.inode.state.value == "stored"]
    spooled = {one.inode.id: one.stored_nbytes for one in nodes if one.inode.state.value in ("open", "sealed")}
    return spooled | library.store.catalog.added_nbytes(stored)
