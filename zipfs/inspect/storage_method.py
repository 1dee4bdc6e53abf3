"""The ways in which bytes are stored, how a blob shows its own, and the sizes that are summed up by them. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zipfs.store.catalog.statistics import BlobTable
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import Blob


class StorageMethod(enum.IntEnum):
    """How an extent is stored."""

    SHARED = 0
    """As bytes that another place has already."""
    WHOLE_BASE = 1
    """A tensor against a whole base of its length."""
    BASE_RANGE = 2
    """A tensor against a range of a base, or against one that is shorter."""
    CAST_BASE = 3
    """A tensor against a base of another type."""
    STANDALONE = 4
    """A tensor by itself."""
    BYTES = 5
    """What is no tensor: headers, side files, files that could not be taken apart."""
    SPOOL = 6
    """Not compressed yet."""

    @property
    def label(self) -> str:
        """Return the word that people are shown."""
        return _LABELS[self]

    @property
    def json_name(self) -> str:
        """Return the name in JSON documents, which keep the names that they had first."""
        return _JSON_NAMES[self]


_LABELS = ("shared", "base", "range", "cast", "standalone", "bytes", "spool")
_JSON_NAMES = ("shared", "delta", "range", "cast", "alone", "bytes", "spool")


def method_of_blob(blob: Blob, base: tuple[Blob, View] | None) -> StorageMethod:
    """Tell how one blob is coded."""
    if base is None:
        return StorageMethod.STANDALONE if blob.dtype else StorageMethod.BYTES
    base_blob, view = base
    if view.cast is not None:
        return StorageMethod.CAST_BASE
    whole = view.offset == 0 and view.nbytes == base_blob.nbytes == blob.nbytes
    return StorageMethod.WHOLE_BASE if whole else StorageMethod.BASE_RANGE


def is_tensor(blobs: BlobTable) -> NDArray[np.bool_]:
    """Tell of each blob of a table whether it is a tensor."""
    named = np.array([name != "" for name in blobs.dtype_names], np.bool_)
    return named[blobs.dtypes] if named.size else np.zeros(0, np.bool_)


def methods_of_blobs(blobs: BlobTable) -> NDArray[np.uint8]:
    """Tell how each blob of a table is coded."""
    methods = np.full(blobs.ids.size, StorageMethod.STANDALONE, np.uint8)
    methods[~is_tensor(blobs)] = StorageMethod.BYTES
    methods[blobs.bases >= 0] = StorageMethod.BASE_RANGE
    methods[blobs.whole] = StorageMethod.WHOLE_BASE
    methods[blobs.cast] = StorageMethod.CAST_BASE
    return methods


@dataclass(frozen=True, slots=True)
class Share:
    """Raw bytes, and the bytes that they added to the store."""

    nbytes: int
    stored_nbytes: int


Shares = Mapping[StorageMethod, Share]
"""What is stored by each method that is in use, in the order of the methods."""


def total(shares: Shares) -> Share:
    """Sum over all methods."""
    return Share(sum(one.nbytes for one in shares.values()), sum(one.stored_nbytes for one in shares.values()))


def total_by_method(all_shares: Iterable[Shares]) -> dict[StorageMethod, Share]:
    """Sum over files or models, method by method."""
    found: dict[StorageMethod, Share] = {}
    for shares in all_shares:
        for method, share in shares.items():
            sums = found.get(method, Share(0, 0))
            found[method] = Share(sums.nbytes + share.nbytes, sums.stored_nbytes + share.stored_nbytes)
    return dict(sorted(found.items()))


def shares_of(methods: NDArray[np.uint8], nbytes: NDArray[np.int64], stored: NDArray[np.int64]) -> Shares:
    """Sum extents by their methods; the three columns have one value an extent."""
    return {
        method: Share(int(nbytes[chosen].sum()), int(stored[chosen].sum()))
        for method in StorageMethod
        if (chosen := methods == method).any()
    }
