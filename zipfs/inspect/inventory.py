"""Owns the census: every served file of a store, and how each of its extents is stored.

An extent is SHARED unless its file is the first (by id, then offset) that uses the blob; only the first one adds the
blob's bytes to the store, so that what files and models added sums up.  A census is of one moment and immutable; it is
taken by the thread whose store it is and read by any.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zipfs.errors import CatalogDamaged, NotFound
from zipfs.inspect.hub_names import HubNames
from zipfs.store.catalog.statistics import BlobTable, Integers
from zipfs.store.disk.progress import Report
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, InodeId, Kind, State
from zipfs.store.store import Store

_REPORT_EVERY = 64


class Way(enum.IntEnum):
    """How an extent is stored."""

    SHARED = 0
    """As bytes that another place has already."""
    DELTA = 1
    """A tensor against a whole base of its length."""
    RANGE = 2
    """A tensor against a range of a base, or against one that is shorter."""
    CAST = 3
    """A tensor against a base of another type."""
    ALONE = 4
    """A tensor by itself."""
    BYTES = 5
    """What is no tensor: headers, side files, files that could not be taken apart."""
    SPOOL = 6
    """Not compressed yet."""

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class File:
    """A served file, at the first of its names, or for one in a cache of the hub at that in its snapshot; `model` is
    the index of the directory that holds it, if that has tensors. `at` is where it lies if that is somewhere else.
    """

    path: bytes
    at: bytes
    inode_id: InodeId
    nbytes: int
    in_spool: bool
    model: int | None


@dataclass(frozen=True, slots=True)
class Uses:
    """Every extent, in order of inode id and offset.

    `file` is an index into the files of the census, `blob` and `ways` are a row of the blob table and a `Way`; `nbytes`
    and `added_nbytes` count the extent and what it added to the store.  `owner` is the index of the extent that the
    blob counts for.
    """

    file: NDArray[np.intp]
    offset: Integers
    nbytes: Integers
    blob: NDArray[np.intp]
    ways: NDArray[np.uint8]
    added_nbytes: Integers
    owner: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Census:
    """Files in order of path; models (directories that hold tensors) likewise."""

    files: tuple[File, ...]
    models: tuple[bytes, ...]
    blobs: BlobTable
    uses: Uses

    def first_use(self) -> NDArray[np.intp]:
        """For each blob the index of its first extent, -1 where no file uses it."""
        first = np.full(self.blobs.ids.size, -1, np.intp)
        first[self.uses.blob[self.uses.owner]] = self.uses.owner
        return first

    def uses_of_files(self) -> list[NDArray[np.intp]]:
        """For each file the indices of its extents, in order of offset."""
        order = np.argsort(self.uses.file, kind="stable")
        return np.split(order, np.searchsorted(self.uses.file[order], np.arange(1, len(self.files))))

    def is_tensor(self) -> NDArray[np.bool_]:
        """For each extent whether it belongs to a tensor."""
        named = np.array([name != "" for name in self.blobs.dtype_names], np.bool_)
        return named[self.blobs.dtypes[self.uses.blob]] if named.size else np.zeros(0, np.bool_)

    def model_of_use(self) -> NDArray[np.intp]:
        """For each extent the index of its model, -1 for files that belong to none."""
        of_file = np.array([-1 if file.model is None else file.model for file in self.files], np.intp)
        return of_file[self.uses.file] if of_file.size else np.empty(0, np.intp)


def take_census(store: Store, report: Report) -> Census:
    """Read all of it in one snapshot. Raises CatalogDamaged for rows that are not what was written."""
    try:
        with store.catalog.snapshot():
            blobs = store.catalog.blob_table()
            found = _files(store, report)
            rows = _extents(store, found, report)
    except NotFound as error:
        raise CatalogDamaged(f"{error.args[0]} is missing") from error
    uses = _uses(rows, blobs)
    return _with_models(found, uses, blobs)


@dataclass(frozen=True, slots=True)
class _Found:
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
            found.append(_Found(names.name(path), path, inode.id, inode.nbytes, inode.state is not State.STORED))
            if len(found) % _REPORT_EVERY == 0:
                report("listing files", len(found), len(found))
    found.sort(key=lambda one: one.path.split(b"/"))
    return found


def _extents(store: Store, found: list[_Found], report: Report) -> list[Integers]:
    """For each extent (file, offset, nbytes, blob id), in order of inode id and offset."""
    order = sorted(range(len(found)), key=lambda at: found[at].inode_id)
    tables: list[Integers] = []
    for done, at in enumerate(order, start=1):
        extents = store.catalog.extents(store.catalog.inode(found[at].inode_id))
        if extents:
            rows = [(at, extent.offset, extent.nbytes, extent.blob_id) for extent in extents]
            tables.append(np.array(rows, np.int64))
        if done % _REPORT_EVERY == 0 or done == len(order):
            report("reading files", done, len(order))
    return tables


def _uses(tables: list[Integers], blobs: BlobTable) -> Uses:
    rows = np.concatenate(tables) if tables else np.empty((0, 4), np.int64)
    blob = blobs.rows(rows[:, 3])
    _, first, inverse = np.unique(blob, return_index=True, return_inverse=True)
    owner = first[inverse].astype(np.intp)
    is_owner = owner == np.arange(owner.size)
    ways = _ways_of(blobs)[blob]
    ways[~is_owner] = Way.SHARED
    added = np.where(is_owner, blobs.stored_nbytes[blob], 0)
    return Uses(rows[:, 0].astype(np.intp), rows[:, 1], rows[:, 2], blob, ways, added, owner)


def _ways_of(blobs: BlobTable) -> NDArray[np.uint8]:
    """How each blob is coded."""
    ways = np.full(blobs.ids.size, Way.ALONE, np.uint8)
    ways[blobs.dtypes == _plain(blobs)] = Way.BYTES
    ways[blobs.bases >= 0] = Way.RANGE
    ways[blobs.whole] = Way.DELTA
    ways[blobs.cast] = Way.CAST
    return ways


def _plain(blobs: BlobTable) -> int:
    return blobs.dtype_names.index("") if "" in blobs.dtype_names else -1


def _with_models(found: list[_Found], uses: Uses, blobs: BlobTable) -> Census:
    has_tensors = np.zeros(len(found), np.bool_)
    has_tensors[uses.file[blobs.dtypes[uses.blob] != _plain(blobs)]] = True
    models = sorted({os.path.dirname(found[at].path) for at in np.flatnonzero(has_tensors).tolist()})
    index = {path: number for number, path in enumerate(models)}
    files = tuple(
        File(one.path, one.at, one.inode_id, one.nbytes, one.in_spool, index.get(os.path.dirname(one.path)))
        for one in found
    )
    return Census(files, tuple(models), blobs, uses)
