"""Owns the account of one stored file: for each extent how it is stored, against what, and what lineage predicts.

Predictions come from sketches that the store keeps, in bits per item; where it keeps none there is none, and none
against a view that is a range or a cast.  Used by the thread whose store it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zipfs.bases.similarity.candidates import Search
from zipfs.bases.similarity.size_model import predict_against, predict_standalone
from zipfs.errors import CatalogDamaged
from zipfs.inspect.inventory import Way
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
    """What a blob is coded against; `place` is None if every file that held the base is gone."""

    blob: Blob
    view: View
    place: Place | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Bits per item: against the base (None without one that is taken whole), alone, and against the best of the other
    tensors that resemble it and are coded alone, which is used first at `other`.
    """

    against: float | None
    alone: float
    best_other: float | None
    other: Place | None


@dataclass(frozen=True, slots=True)
class Piece:
    """An extent. `shared_with` is the place that its bytes count for, if that is another one; `members` counts the
    tensors that are coded against its blob.
    """

    extent: Extent
    way: Way
    blob: Blob
    added_nbytes: int
    shared_with: Place | None
    base: Base | None
    members: int
    prediction: Prediction | None


def pieces_of(store: Store, inode: Inode) -> list[Piece]:
    """The extents of a stored file, in order. Raises CatalogDamaged."""
    catalog = store.catalog
    with catalog.snapshot():
        extents = catalog.extents(inode)
        blobs = catalog.blobs_of(inode)
        places = {blob_id: Place(*use) for blob_id, use in catalog.first_uses(sorted(blobs)).items()}
        members = catalog.member_counts(sorted(blobs))
        predictions = _Predictions(store, blobs)
        return [_piece(inode, extent, blobs, places, members, predictions) for extent in extents]


def _piece(
    inode: Inode,
    extent: Extent,
    blobs: Mapping[BlobId, Blob],
    places: Mapping[BlobId, Place],
    members: Mapping[BlobId, int],
    predictions: _Predictions,
) -> Piece:
    blob = _known(blobs, extent.blob_id)
    first = places.get(blob.id)
    if first is None:  # the extents themselves were checked, so it is their index
        raise CatalogDamaged(f"the index of extents does not know blob {blob.id}; `zipfs rebuild` makes it anew")
    base = None
    if blob.base is not None:
        base = Base(_known(blobs, blob.base.blob_id), blob.base.view, places.get(blob.base.blob_id))
    is_first = first == Place(inode.id, extent.offset)
    return Piece(
        extent,
        _way(blob, base) if is_first else Way.SHARED,
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


def _way(blob: Blob, base: Base | None) -> Way:
    if base is None:
        return Way.ALONE if blob.dtype else Way.BYTES
    if base.view.cast is not None:
        return Way.CAST
    whole = base.view.offset == 0 and base.view.nbytes == base.blob.nbytes == blob.nbytes
    return Way.DELTA if whole else Way.RANGE


class _Predictions:
    """Of the tensors of one file."""

    def __init__(self, store: Store, blobs: Mapping[BlobId, Blob]) -> None:
        self._catalog = store.catalog
        self._sketches = store.catalog.sketches(sorted(blobs))
        self._signatures = store.catalog.signatures(sorted(blobs))
        self._search = Search(store)
        self._search.begin()

    def of(self, blob: Blob) -> Prediction | None:
        mine = self._sketches.get(blob.id)
        if mine is None or not blob.dtype:
            return None
        alone = predict_standalone(mine, blob.dtype)
        base_id = None if blob.base is None else blob.base.blob_id
        others = [one for one in self._near(blob) if one[0] not in (blob.id, base_id)]
        theirs = [sketch for _, sketch in others]
        of_base = self._sketches.get(base_id) if base_id is not None else None
        bits = predict_against(mine, [*theirs, of_base or b""], blob.dtype)
        against = float(bits[-1]) if np.isfinite(bits[-1]) else None
        best, other = self._best(bits[:-1].tolist(), [BlobId(blob_id) for blob_id, _ in others])
        return None if not np.isfinite(alone) else Prediction(against, alone, best, other)

    def _near(self, blob: Blob) -> list[tuple[int, bytes]]:
        signature = self._signatures.get(blob.id)
        return [] if signature is None else self._search.near(blob.dtype, blob.nbytes, signature)

    def _best(self, bits: Sequence[float], ids: Sequence[BlobId]) -> tuple[float | None, Place | None]:
        finite = [(value, blob_id) for value, blob_id in zip(bits, ids, strict=True) if np.isfinite(value)]
        if not finite:
            return None, None
        value, blob_id = min(finite)
        use = self._catalog.first_uses([blob_id]).get(blob_id)
        return value, None if use is None else Place(*use)
