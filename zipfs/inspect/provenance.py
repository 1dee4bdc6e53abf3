"""The extents of one stored file: by which method each is stored, against what, and what sketches predicted.

Predictions come from sketches that the store keeps, in bits per item. Where it keeps none there is none, and none
against a view that is a range or a cast. The catalog is asked about this file alone: an inventory of the whole store
tells the same methods, and takes as long as the store is large. Used by the thread whose store it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.size_model import predict_against, predict_standalone
from zipfs.errors import CatalogDamaged
from zipfs.inspect.storage_method import StorageMethod, method_of_blob
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import Blob, BlobId, Extent, Inode, InodeId
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob is used first."""

    inode_id: InodeId
    offset: int


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a blob, and the view of it. `place` is None if every file that held the base is gone."""

    blob: Blob
    view: View
    place: Place | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Bits per item that sketches predict.

    `against` is against the base, None without one that is taken whole. `standalone` is without any. `best_other` is
    against the best of the other standalone tensors that resemble it, which is used first at `other`.
    """

    against: float | None
    standalone: float
    best_other: float | None
    other: Place | None


@dataclass(frozen=True, slots=True)
class StoredExtent:
    """An extent and its blob.

    `shared_with` is the place that its bytes count for, if that is another one. `members` counts the tensors that are
    coded against its blob.
    """

    extent: Extent
    method: StorageMethod
    blob: Blob
    added_nbytes: int
    shared_with: Place | None
    base: Base | None
    members: int
    prediction: Prediction | None


def stored_extents(store: Store, inode: Inode) -> list[StoredExtent]:
    """Return the extents of a stored file, in order. Raises CatalogDamaged."""
    catalog = store.catalog
    with catalog.snapshot():
        extents = catalog.extents(inode)
        blobs = catalog.blobs_of(inode)
        places = {blob_id: Place(*use) for blob_id, use in catalog.first_uses(sorted(blobs)).items()}
        members = catalog.member_counts(sorted(blobs))
        predictions = _Predictions(store, blobs)
        return [_stored_extent(inode, extent, blobs, places, members, predictions) for extent in extents]


def _stored_extent(
    inode: Inode,
    extent: Extent,
    blobs: Mapping[BlobId, Blob],
    places: Mapping[BlobId, Place],
    members: Mapping[BlobId, int],
    predictions: _Predictions,
) -> StoredExtent:
    blob = _known(blobs, extent.blob_id)
    first = places.get(blob.id)
    if first is None:  # the extents themselves were checked, so it is their index
        raise CatalogDamaged(f"the index of extents does not know blob {blob.id}; `zipfs rebuild` makes it anew")
    base = None
    if blob.base is not None:
        base = Base(_known(blobs, blob.base.blob_id), blob.base.view, places.get(blob.base.blob_id))
    is_first = first == Place(inode.id, extent.offset)
    return StoredExtent(
        extent,
        method_of_blob(blob, None if base is None else (base.blob, base.view)) if is_first else StorageMethod.SHARED,
        blob,
        blob.stored_nbytes if is_first else 0,
        None if is_first else first,
        base,
        members.get(blob.id, 0),
        predictions.of(blob) if is_first else None,
    )


def _known(blobs: Mapping[BlobId, Blob], blob_id: BlobId) -> Blob:
    if blob_id not in blobs:
        raise CatalogDamaged(f"blob {blob_id} is missing")
    return blobs[blob_id]


class _Predictions:
    """Predicts what the tensors of one file take, from sketches."""

    def __init__(self, store: Store, blobs: Mapping[BlobId, Blob]) -> None:
        self._catalog = store.catalog
        self._sketches = store.catalog.sketches(sorted(blobs))
        self._signatures = store.catalog.signatures(sorted(blobs))
        self._search = CandidateSearch(store)
        self._search.begin()

    def of(self, blob: Blob) -> Prediction | None:
        mine = self._sketches.get(blob.id)
        if mine is None or not blob.dtype:
            return None
        standalone = predict_standalone(mine, blob.dtype)
        base_id = None if blob.base is None else blob.base.blob_id
        others = [one for one in self._near(blob) if one[0] not in (blob.id, base_id)]
        theirs = [sketch for _, sketch in others]
        of_base = self._sketches.get(base_id) if base_id is not None else None
        bits = predict_against(mine, [*theirs, of_base or b""], blob.dtype)
        against = float(bits[-1]) if np.isfinite(bits[-1]) else None
        best, other = self._best(bits[:-1].tolist(), [BlobId(blob_id) for blob_id, _ in others])
        return None if not np.isfinite(standalone) else Prediction(against, standalone, best, other)

    def _near(self, blob: Blob) -> list[tuple[BlobId, bytes]]:
        signature = self._signatures.get(blob.id)
        return [] if signature is None else self._search.of_same_length(blob.dtype, blob.nbytes, signature)

    def _best(self, bits: Sequence[float], ids: Sequence[BlobId]) -> tuple[float | None, Place | None]:
        finite = [(value, blob_id) for value, blob_id in zip(bits, ids, strict=True) if np.isfinite(value)]
        if not finite:
            return None, None
        value, blob_id = min(finite)
        use = self._catalog.first_uses([blob_id]).get(blob_id)
        return value, None if use is None else Place(*use)
