"""Where ranges of a tensor are found again in what is stored: the search for relatives, with the reading that it takes.

Knows the blobs of the catalog and those of the batch that are not in it yet. Used by one thread.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from zipfs.codec import item_nbytes
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.source import Source
from zipfs.lineage.landmarks import ANCHORS, Landmarks, parse_landmarks
from zipfs.lineage.relatives import Candidate, Relative, find_relatives, settle
from zipfs.store.blobs import OpenBlob
from zipfs.store.rows import BlobId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_LOOKED_UP = 128
_LOOKED_UP_PER_MIB = 16
_LOOKED_UP_MAX = 2048
"""Hashes of a tensor that are looked up: a tensor that is put together of many others needs some for each."""
_CANDIDATES = 16
_CANDIDATES_MAX = 256
_NEW_PER_ANCHOR = 16
_AGREEING = 0.75


class Relations:
    """The search for relatives, for one batch."""

    def __init__(self, store: Store, open_base: Callable[[BlobId], OpenBlob]) -> None:
        self._store = store
        self._open = open_base
        self._new: dict[BlobId, Candidate] = {}
        self._anchors: dict[int, list[BlobId]] = defaultdict(list)

    def add(self, blob_id: BlobId, dtype: str, landmarks: Landmarks) -> None:
        """Have a new blob that is coded alone be found."""
        kept = parse_landmarks(landmarks.encode())
        if kept is None:
            return
        self._new[blob_id] = Candidate(blob_id, dtype, kept)
        for anchor in anchors_of(kept):
            if len(self._anchors[anchor]) < _NEW_PER_ANCHOR:
                self._anchors[anchor].append(blob_id)

    def forget(self, blob_id: BlobId) -> None:
        self._new.pop(blob_id, None)

    def find(self, mine: Landmarks, source: Source, span: Span, alone_bits: float) -> list[Relative]:
        """Ranges of a tensor that resemble others, apart from each other and in order. Raises SourceError."""
        found = find_relatives(mine, span.dtype, alone_bits, self._candidates(mine, span.nbytes))
        if len(found) == 1 and (found[0].start, found[0].stop, found[0].distance) == (0, mine.items, 0):
            return found
        row_items = math.prod(span.shape[1:]) if len(span.shape) > 1 else 1
        try:
            opened = {relative.blob_id: self._open(BlobId(relative.blob_id)) for relative in found}

            def items_of(blob_id: int) -> int:
                blob = opened[blob_id].blob
                return blob.nbytes // item_nbytes(blob.dtype)

            def agrees(relative: Relative, start: int, stop: int) -> bool:
                return self._agrees(source, span, opened[relative.blob_id], relative, start, stop)

            return settle(found, mine.items, max(1, row_items), items_of, agrees)
        except Damaged as error:
            log.error("%s; relatives of %s are not looked for", error, source.shown)
            return []

    def _candidates(self, mine: Landmarks, nbytes: int) -> list[Candidate]:
        mib = nbytes >> 20
        hashes = mine.hashes[: min(_LOOKED_UP + _LOOKED_UP_PER_MIB * mib, _LOOKED_UP_MAX)].view(np.int64).tolist()
        at_most = min(_CANDIDATES + mib, _CANDIDATES_MAX)
        counted = Counter(blob_id for anchor in hashes for blob_id in self._anchors.get(anchor, ()))
        new = (self._new.get(blob_id) for blob_id, _ in counted.most_common(at_most))
        candidates = [candidate for candidate in new if candidate is not None]
        catalog = self._store.catalog
        for blob_id, dtype, stored in catalog.landmarks(catalog.anchored(hashes, at_most)):
            landmarks = parse_landmarks(stored)
            if landmarks is not None:
                candidates.append(Candidate(blob_id, dtype, landmarks))
        return candidates

    def _agrees(self, source: Source, span: Span, base: OpenBlob, relative: Relative, start: int, stop: int) -> bool:
        width, base_width = item_nbytes(span.dtype), item_nbytes(base.blob.dtype)
        mine = np.frombuffer(source.read_exactly(span.offset + start * width, (stop - start) * width), np.uint8)
        theirs = np.frombuffer(
            self._store.frames.range(base, (start + relative.distance) * base_width, (stop - start) * base_width),
            np.uint8,
        )
        if relative.bits == 0:
            if relative.cast is not None:
                cast = np.empty(mine.size, np.uint8)
                relative.cast.apply(theirs.data, cast.data)
                theirs = cast
            return bool(np.array_equal(mine, theirs))
        signs = (mine[width - 1 :: width] ^ theirs[base_width - 1 :: base_width]) < 0x80
        return bool(np.count_nonzero(signs) >= _AGREEING * signs.size)


def anchors_of(landmarks: Landmarks) -> list[int]:
    """The hashes, as SQLite's signed integers, by which a blob is looked up."""
    hashes: list[int] = landmarks.hashes[:ANCHORS].view(np.int64).tolist()
    return hashes
