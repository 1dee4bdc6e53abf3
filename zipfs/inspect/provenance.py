"""The extents of one stored file: by which method each is stored, against what, why, and what sketches predict.

Predictions come from sketches, in bits per weight. There is none of what is too small to have one, and none
against a view that is a range or a cast. Reasons are those that the rules of the base choice give for what is stored
now. The catalog is asked about this file alone: an inventory of the whole store tells the same methods, and takes as
long as the store is large. Used by the thread whose store it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zipfs.bases.similarity.base_choice import Reason, reconstruct_choice
from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.bases.similarity.size_model import predict_against, predict_standalone
from zipfs.errors import CatalogDamaged
from zipfs.inspect.bits_per_weight import units_per_weight
from zipfs.inspect.storage_method import StorageMethod, method_of_blob
from zipfs.store.catalog.statistics import Members
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
    """Bits per weight that sketches predict.

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
    coded against its blob. `reason` is None where what is stored now does not tell it any more.
    """

    extent: Extent
    method: StorageMethod
    blob: Blob
    added_nbytes: int
    shared_with: Place | None
    base: Base | None
    members: int
    prediction: Prediction | None
    reason: Reason | None


def stored_extents(store: Store, inode: Inode) -> list[StoredExtent]:
    """Return the extents of a stored file, in order. Raises CatalogDamaged."""
    catalog = store.catalog
    with catalog.snapshot():
        extents = catalog.extents(inode)
        blobs = catalog.blobs_of(inode)
        places = {blob_id: Place(*use) for blob_id, use in catalog.first_uses(sorted(blobs)).items()}
        members = catalog.members_of(sorted(blobs))
    # Outside of the snapshot: what sketches are made of is opened in its present form.
    predictions = _Predictions(store, blobs)
    firsts: dict[BlobId, StoredExtent] = {}
    found: list[StoredExtent] = []
    for extent in extents:
        first = firsts.get(extent.blob_id)
        if first is not None and _is_gathered(extent, first):
            found.append(replace(first, extent=extent, added_nbytes=0))
        else:
            found.append(_stored_extent(inode, extent, blobs, places, members, predictions))
            firsts.setdefault(extent.blob_id, found[-1])
    return found


def _is_gathered(extent: Extent, first: StoredExtent) -> bool:
    """Tell whether a blob holds plain bytes of a file together, of which `first` has the first: it shares nothing."""
    is_plain = not first.blob.dtype and first.method is not StorageMethod.SHARED
    return is_plain and extent.blob_offset != first.extent.blob_offset


def _stored_extent(
    inode: Inode,
    extent: Extent,
    blobs: Mapping[BlobId, Blob],
    places: Mapping[BlobId, Place],
    members: Mapping[BlobId, Members],
    predictions: _Predictions,
) -> StoredExtent:
    blob = _known(blobs, extent.blob_id)
    first = places.get(blob.id)
    if first is None:  # the extents themselves were checked, so it is their index
        raise CatalogDamaged(f"the index of extents does not know blob {blob.id}; `zipfs rebuild` makes it anew")
    base = None
    if blob.base is not None:
        base = Base(_known(blobs, blob.base.blob_id), blob.base.view, places.get(blob.base.blob_id))
    own = members.get(blob.id)
    serves = 0 if own is None else own.number
    if first != Place(inode.id, extent.offset):
        is_part = extent.blob_offset != 0 or extent.nbytes != blob.nbytes
        reason = Reason.EQUAL_RANGE if is_part else Reason.EQUAL
        return StoredExtent(extent, StorageMethod.SHARED, blob, 0, first, base, serves, None, reason)
    method = method_of_blob(blob, None if base is None else (base.blob, base.view))
    prediction, why = predictions.of(blob, method, None if own is None else own.oldest)
    return StoredExtent(extent, method, blob, blob.stored_nbytes, None, base, serves, prediction, why)


def _known(blobs: Mapping[BlobId, Blob], blob_id: BlobId) -> Blob:
    if blob_id not in blobs:
        raise CatalogDamaged(f"blob {blob_id} is missing")
    return blobs[blob_id]


class _Predictions:
    """Predicts what the tensors of one file take, from sketches."""

    def __init__(self, store: Store, blobs: Mapping[BlobId, Blob]) -> None:
        self._catalog = store.catalog
        self._signatures = store.catalog.signatures(sorted(blobs))
        self._search = CandidateSearch(store)
        self._search.begin()

    def of(
        self, blob: Blob, method: StorageMethod, oldest_member: BlobId | None
    ) -> tuple[Prediction | None, Reason | None]:
        """Return what is predicted of a blob that is stored by `method`, and why it is stored so."""
        base_id = None if blob.base is None else blob.base.blob_id
        wanted = [blob.id] if base_id is None else [blob.id, base_id]
        sketches = self._search.reader.sketches(wanted, blob.nbytes) if blob.dtype else {}
        mine = sketches.get(blob.id)
        candidates: list[tuple[BlobId, bytes]] = []
        bits = np.zeros(0)
        standalone = float("inf")
        prediction: Prediction | None = None
        if mine is not None:
            standalone = predict_standalone(mine, blob.dtype)
            candidates = [one for one in self._near(blob) if one[0] not in (blob.id, base_id)]
            others = len(candidates)
            if base_id is not None:
                candidates.append((base_id, sketches.get(base_id, b"")))
            bits = predict_against(mine, [sketch for _, sketch in candidates], blob.dtype)
            against = float(bits[-1]) if base_id is not None and np.isfinite(bits[-1]) else None
            best, other = self._best(bits[:others].tolist(), [blob_id for blob_id, _ in candidates[:others]])
            if np.isfinite(standalone):
                units = units_per_weight(blob.dtype)
                prediction = Prediction(
                    None if against is None else against * units,
                    standalone * units,
                    None if best is None else best * units,
                    other,
                )
        choice = reconstruct_choice(
            self._search,
            blob,
            self._features(blob.id, mine),
            candidates,
            bits,
            standalone,
            oldest_member=oldest_member,
            is_whole=method is StorageMethod.WHOLE_BASE,
        )
        return prediction, None if choice is None else choice.reason

    def _features(self, blob_id: BlobId, sketch: bytes | None) -> TensorFeatures | None:
        signature = self._signatures.get(blob_id)
        return None if sketch is None or signature is None else TensorFeatures(sketch, signature)

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
