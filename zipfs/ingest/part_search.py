"""Where ranges of a tensor are found again in what is stored: the search for relatives, with the reading that it takes.

Knows the blobs of the catalog and those of the batch that are not in it yet. Used by one thread.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from zipfs.bases.similarity.alignment import Candidate, PartialMatch, find_partial_matches, refine_ends
from zipfs.bases.similarity.minhash import MinhashSample, parse_sample
from zipfs.codec import item_nbytes
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.source import Source
from zipfs.store.catalog.similarity_queries import StoredSamples
from zipfs.store.catalog.writes import Transaction
from zipfs.store.frames.cache import OpenBlob
from zipfs.store.objects.values import BaseRef, Blob, BlobId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

_LEAST_LOOKED_UP = 16
_NBYTES_PER_LOOK_UP = 4096
_LOOKED_UP = 128
_LOOKED_UP_PER_MIB = 16
_LOOKED_UP_MAX = 2048
"""Hashes of a tensor that are looked up: a tensor that is put together of many others needs some for each."""
_CANDIDATES = 16
_CANDIDATES_MAX = 256
_NEW_PER_ANCHOR = 16
_MEMBERS = 64
_AGREEING = 0.75


class Relations:
    """The search for relatives, for one batch."""

    def __init__(self, store: Store, open_blob: Callable[[BlobId], OpenBlob]) -> None:
        self._store = store
        self._open = open_blob
        self._new: dict[BlobId, Candidate] = {}
        self._members: dict[BlobId, list[BlobId]] = defaultdict(list)
        self._anchors: dict[int, list[BlobId]] = defaultdict(list)

    def add(self, blob: Blob, landmarks: MinhashSample) -> None:
        """Have a new blob be found."""
        is_member = blob.base is not None
        kept = landmarks.kept(is_member=is_member)
        self._new[blob.id] = Candidate(blob.id, blob.dtype, kept, is_member=is_member)
        if blob.base is not None:
            self._members[blob.base.blob_id].append(blob.id)
            return
        for anchor in kept.index_keys:
            if len(self._anchors[anchor]) < _NEW_PER_ANCHOR:
                self._anchors[anchor].append(blob.id)

    def forget(self, blob_id: BlobId) -> None:
        self._new.pop(blob_id, None)

    def keep(self, txn: Transaction) -> None:
        """Write down what new blobs are found by, in the transaction that registers them."""
        for blob_id, candidate in self._new.items():
            txn.put_samples(blob_id, candidate.sample.encode())
            if not candidate.is_member:
                txn.put_index_keys(blob_id, candidate.sample.index_keys)

    def find(
        self,
        mine: MinhashSample,
        source: Source,
        span: Span,
        standalone_bits: float,
        base: BaseRef | None,
        *,
        members: bool,
    ) -> list[PartialMatch]:
        """Ranges of a tensor that resemble others, apart from each other and in order; with `members` also ranges that
        seem to be equal to some of what has a base itself. Raises SourceError.

        Nothing is sought beyond a `base` that is chosen already if all that looks alike is that.
        """
        candidates = self._candidates(mine, span.nbytes)
        if all(base is not None and candidate.blob_id == base.blob_id for candidate in candidates):
            return []
        found = find_partial_matches(mine, span.dtype, standalone_bits, candidates)
        if members and not all(relative.equal for relative in found):
            equal = self._members_of({BlobId(relative.blob_id) for relative in found})
            if equal:
                found = find_partial_matches(mine, span.dtype, standalone_bits, candidates + equal)
        try:
            opened = {relative.blob_id: self._open(BlobId(relative.blob_id)) for relative in found}
            if len(found) == 1 and (found[0].start, found[0].stop, found[0].distance) == (0, mine.items, 0):
                return found
            return self._settled(found, opened, mine, source, span)
        except Damaged as error:
            log.error("%s; relatives of %s are not looked for", error, source.shown)
            return []

    def _settled(
        self, found: list[PartialMatch], opened: Mapping[int, OpenBlob], mine: MinhashSample, source: Source, span: Span
    ) -> list[PartialMatch]:
        def items_of(blob_id: int) -> int:
            blob = opened[blob_id].blob
            return blob.nbytes // item_nbytes(blob.dtype)

        def agrees(relative: PartialMatch, start: int, stop: int) -> bool:
            return self._agrees(source, span, opened[relative.blob_id], relative, start, stop)

        row_items = math.prod(span.shape[1:]) if len(span.shape) > 1 else 1
        return refine_ends(found, mine.items, max(1, row_items), items_of, agrees)

    def _candidates(self, mine: MinhashSample, nbytes: int) -> list[Candidate]:
        """Tensors that are coded standalone and have most landmarks in common."""
        mib = nbytes >> 20
        looked_up = min(nbytes // _NBYTES_PER_LOOK_UP + _LEAST_LOOKED_UP, _LOOKED_UP) + _LOOKED_UP_PER_MIB * mib
        hashes = mine.hashes[: min(looked_up, _LOOKED_UP_MAX)].view(np.int64).tolist()
        at_most = min(_CANDIDATES + mib, _CANDIDATES_MAX)
        counted = Counter(blob_id for anchor in hashes for blob_id in self._anchors.get(anchor, ()))
        new = (self._new.get(blob_id) for blob_id, _ in counted.most_common(at_most))
        catalog = self._store.catalog
        stored = catalog.samples_of_standalone(catalog.blobs_with_index_keys(hashes, at_most))
        return [*filter(None, new), *_parsed(stored, is_member=False)]

    def _members_of(self, base_ids: set[BlobId]) -> list[Candidate]:
        """The newest tensors that are coded against some bases."""
        new = (self._new.get(blob_id) for base_id in base_ids for blob_id in self._members[base_id][-_MEMBERS:])
        stored = self._store.catalog.samples_of_members(sorted(base_ids), _MEMBERS)
        return [*filter(None, new), *_parsed(stored, is_member=True)]

    def _agrees(
        self, source: Source, span: Span, base: OpenBlob, relative: PartialMatch, start: int, stop: int
    ) -> bool:
        width, base_width = item_nbytes(span.dtype), item_nbytes(base.blob.dtype)
        mine = np.frombuffer(source.read_exactly(span.offset + start * width, (stop - start) * width), np.uint8)
        theirs = np.frombuffer(
            self._store.frames.range(base, (start + relative.distance) * base_width, (stop - start) * base_width),
            np.uint8,
        )
        if relative.equal:
            return bool(np.array_equal(mine, theirs))
        signs = (mine[width - 1 :: width] ^ theirs[base_width - 1 :: base_width]) < 0x80
        return bool(np.count_nonzero(signs) >= _AGREEING * signs.size)


def _parsed(rows: Iterable[StoredSamples], *, is_member: bool) -> Iterator[Candidate]:
    for blob_id, dtype, nbytes, stored in rows:
        landmarks = parse_sample(stored)
        if landmarks is not None and landmarks.items == nbytes // item_nbytes(dtype):
            yield Candidate(blob_id, dtype, landmarks, is_member)
