"""A problem of a store, and the files that it concerns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zipfs.errors import Damaged, NotFound
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace import tree
from zipfs.store.objects.values import Blob, BlobId, InodeId


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong. `part` is "catalog", "manifests", "pack", "data" or "spool"."""

    part: str
    where: str
    message: str
    paths: tuple[str, ...] = ()
    """Files that cannot be read because of it."""
    harmless: bool = False
    """Whether a kill leaves such a thing behind; the next collection clears it away."""


def paths_of(catalog: Catalog, inode_ids: Sequence[InodeId]) -> tuple[str, ...]:
    """Return the served paths of inodes; the number of an inode whose path cannot be told."""
    found = []
    for inode_id in inode_ids:
        try:
            found.append(os.fsdecode(tree.served_path(catalog, inode_id)))
        except (Damaged, NotFound, ValueError):
            found.append(f"inode {inode_id}")
    return tuple(found)


def users_of_blob(catalog: Catalog, blob_id: BlobId) -> tuple[str, ...]:
    """Return the paths of the files that need a blob, also as a base."""
    return paths_of(catalog, catalog.users_of_blob(blob_id))


def blobs_or_problems(catalog: Catalog) -> Iterator[Blob | Problem]:
    """Yield every blob of the catalog, or what is wrong with its row."""
    for blob_id in catalog.blob_ids():
        catalog.stop.check()
        try:
            yield catalog.blob(blob_id)
        except Damaged as error:
            yield Problem("catalog", str(catalog.path), str(error), users_of_blob(catalog, blob_id))
