"""Owns what a choice may ask for beyond features: bytes of one tensor, compared with those of blobs."""

from __future__ import annotations

from typing import Protocol

from zipfs.bases.similarity.alignment import PartialMatch
from zipfs.store.objects.values import Blob, BlobId


class TensorContent(Protocol):
    """The bytes of the tensor that a base is chosen for."""

    def blob(self, blob_id: BlobId) -> Blob:
        """Return a blob that may be a base. Raises Damaged where it cannot be opened."""

    def coded_nbytes(self, blob_id: BlobId) -> float:
        """Return the size of a part of the tensor, really coded against a blob; infinity where that is damaged."""

    def agrees(self, match: PartialMatch, start: int, stop: int) -> bool:
        """Return whether items [start, stop) have the signs of those that `match` names, or equal them if it does.

        Raises Damaged.
        """
