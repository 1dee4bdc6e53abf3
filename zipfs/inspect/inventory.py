"""The inventory: every served file of a store, and how each of its extents is stored.

An extent is SHARED unless its file is the first (by id, then offset) that uses the blob. Only the first one adds the
blob's bytes to the store, so that what files and models added sums up. Where a blob holds plain bytes of several places
of that file, these share nothing either. An inventory is of one moment and immutable; the
thread whose store it is takes it, and any may read it. Families and reports on directories are functions of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zipfs.errors import CatalogDamaged, NotFound
from zipfs.inspect.hub_names import HubNames
from zipfs.inspect.storage_method import Shares, StorageMethod, is_tensor, methods_of_blobs, shares_of
from zipfs.store.catalog.statistics import BlobTable, Integers
from zipfs.store.disk.progress import Report
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, InodeId, Kind, State
from zipfs.store.store import Store

_REPORT_EVERY = 64


@dataclass(frozen=True, slots=True)
class File:
    """A served file.

    `path` is the first of its names, or for a file in a cache of the hub its name in a snapshot; `at` is where it lies.
    `model` is the index of the directory that holds it, None if that has no tensors. `has_tensors` of its own.
    """

    path: bytes
    at: bytes
    inode_id: InodeId
    nbytes: int
    in_spool: bool
    model: int | None
    has_tensors: bool


@dataclass(frozen=True, slots=True)
class ExtentTable:
    """Every extent, in order of inode id and offset; all columns have one value an extent.

    `file` is an index into the files of the inventory, `blob` a row of the blob table, `methods` a `StorageMethod`.
    `nbytes` counts the extent, `added_nbytes` what it added to the store. `owner` is the index of the extent that the
    blob counts for.
    """

    file: NDArray[np.intp]
    offset: Integers
    nbytes: Integers
    blob: NDArray[np.intp]
    methods: NDArray[np.uint8]
    added_nbytes: Integers
    owner: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Files in order of path; models (directories that hold tensors) likewise."""

    files: tuple[File, ...]
    models: tuple[bytes, ...]
    blobs: BlobTable
    extents: ExtentTable

    def first_use(self) -> NDArray[np.intp]:
        """Return for each blob the index of its first extent, -1 where no file uses it."""
        first = np.full(self.blobs.ids.size, -1, np.intp)
        first[self.extents.blob[self.extents.owner]] = self.extents.owner
        return first

    def extents_of_files(self) -> list[NDArray[np.intp]]:
        """Return for each file the indices of its extents, in order of offset."""
        order = np.argsort(self.extents.file, kind="stable")
        return np.split(order, np.searchsorted(self.extents.file[order], np.arange(1, len(self.files))))

    def is_tensor(self) -> NDArray[np.bool_]:
        """Tell of each extent whether it belongs to a tensor."""
        return is_tensor(self.blobs)[self.extents.blob]

    def shares(self) -> Shares:
        """Sum what is in packs up by storage method."""
        return shares_of(self.extents.methods, self.extents.nbytes, self.extents.added_nbytes)

    def model_of_extent(self) -> NDArray[np.intp]:
        """Return for each extent the index of its model, -1 for files that belong to none."""
        of_file = np.array([-1 if file.model is None else file.model for file in self.files], np.intp)
        return of_file[self.extents.file] if of_file.size else np.empty(0, np.intp)


def take_inventory(store: Store, report: Report) -> Inventory:
    """Read a store in a snapshot of its own. Raises CatalogDamaged."""
    with store.catalog.snapshot():
        return read_inventory(store, report)


def read_inventory(store: Store, report: Report) -> Inventory:
    """Read a store in the snapshot that the caller has begun. Raises CatalogDamaged."""
    try:
        blobs = store.catalog.blob_table()
        found = _files(store, report)
        rows = _extents(store, found, report)
    except NotFound as error:
        raise CatalogDamaged(f"{error.args[0]} is missing") from error
    return _with_models(found, _table(rows, blobs), blobs)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file, before its model is known."""

    path: bytes
    at: bytes
    inode_id: InodeId
    nbytes: int
    in_spool: bool


def _files(store: Store, report: Report) -> list[_Found]:
    seen: set[InodeId] = set()
    found: list[_Found] = []
    names = HubNames(store.catalog)
    for path, inode in tree.walk(store.catalog, store.catalog.inode(ROOT)):
        if inode.kind is Kind.FILE and inode.id not in seen:
            seen.add(inode.id)
            nbytes, in_spool = store.content_nbytes(inode), inode.state is not State.STORED
            found.append(_Found(names.name(path), path, inode.id, nbytes, in_spool))
            if len(found) % _REPORT_EVERY == 0:
                report("listing files", len(found), len(found))
    found.sort(key=lambda one: one.path.split(b"/"))
    return found


def _extents(store: Store, found: list[_Found], report: Report) -> list[Integers]:
    """Return for each extent (file, offset, nbytes, blob id, offset in it), in order of inode id and offset."""
    order = sorted(range(len(found)), key=lambda at: found[at].inode_id)
    tables: list[Integers] = []
    for done, at in enumerate(order, start=1):
        extents = store.catalog.extents(store.catalog.inode(found[at].inode_id))
        if extents:
            rows = [(at, extent.offset, extent.nbytes, extent.blob_id, extent.blob_offset) for extent in extents]
            tables.append(np.array(rows, np.int64))
        if done % _REPORT_EVERY == 0 or done == len(order):
            report("reading files", done, len(order))
    return tables


def _table(tables: list[Integers], blobs: BlobTable) -> ExtentTable:
    rows = np.concatenate(tables) if tables else np.empty((0, 5), np.int64)
    blob = blobs.rows(rows[:, 3])
    _, first, inverse = np.unique(blob, return_index=True, return_inverse=True)
    owner = first[inverse].astype(np.intp)
    is_owner = owner == np.arange(owner.size)
    methods = methods_of_blobs(blobs)[blob]
    is_apart = (rows[:, 0] == rows[owner, 0]) & (rows[:, 4] != rows[owner, 4]) & ~is_tensor(blobs)[blob]
    methods[~is_owner & ~is_apart] = StorageMethod.SHARED
    added = np.where(is_owner, blobs.stored_nbytes[blob], 0)
    return ExtentTable(rows[:, 0].astype(np.intp), rows[:, 1], rows[:, 2], blob, methods, added, owner)


def _with_models(found: list[_Found], extents: ExtentTable, blobs: BlobTable) -> Inventory:
    has_tensors = np.zeros(len(found), np.bool_)
    has_tensors[extents.file[is_tensor(blobs)[extents.blob]]] = True
    models = sorted({os.path.dirname(found[at].path) for at in np.flatnonzero(has_tensors).tolist()})
    index = {path: number for number, path in enumerate(models)}
    files = tuple(
        File(one.path, one.at, one.inode_id, one.nbytes, one.in_spool, index.get(os.path.dirname(one.path)), has)
        for one, has in zip(found, has_tensors.tolist(), strict=True)
    )
    return Inventory(files, tuple(models), blobs, extents)
