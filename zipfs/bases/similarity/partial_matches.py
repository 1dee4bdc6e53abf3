"""Owns the search for partial matches: ranges of a tensor that are found again in what is stored.

`alignment` compares samples; here its candidates are searched, and the ends of what it finds are refined by comparing
items. Used by the thread whose candidates they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from zipfs.bases.similarity.alignment import PartialMatch, find_partial_matches, refine_ends
from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.content import TensorContent
from zipfs.bases.similarity.minhash import MinhashSample
from zipfs.codec import item_nbytes
from zipfs.dtypes import cut_nbytes, row_items
from zipfs.errors import Damaged
from zipfs.store.objects.values import BaseRef, Blob, BlobId

log = logging.getLogger(__name__)

_CLEARLY_MORE: Final = 1.02


def search_partial_matches(
    search: CandidateSearch,
    sample: MinhashSample,
    dtype: str,
    shape: Sequence[int],
    nbytes: int,
    standalone_bits: float,
    base: BaseRef | None,
    content: TensorContent,
    *,
    members: bool,
) -> list[PartialMatch]:
    """Return ranges of a tensor that resemble others, apart from each other and in order.

    With `members` there are also ranges that seem to be equal to some of what has a base itself. Nothing is sought
    beyond a `base` that is chosen already if all that looks alike is that. Raises what reading `content` raises, but
    for damage: then nothing is found.
    """
    candidates = search.with_common_keys(sample, nbytes, None if base is None else base.blob_id)
    if all(base is not None and candidate.blob_id == base.blob_id for candidate in candidates):
        return []
    found = find_partial_matches(sample, dtype, standalone_bits, candidates)
    if members and not all(match.equal for match in found):
        equal = search.members_of({BlobId(match.blob_id) for match in found})
        if equal:
            # What lies between equal ranges may be too short to be found in anything by itself.
            others = find_partial_matches(sample, dtype, standalone_bits, candidates + equal)
            if _saved_bits(found, standalone_bits) < _CLEARLY_MORE * _saved_bits(others, standalone_bits):
                found = others
    try:
        blobs = {match.blob_id: content.blob(BlobId(match.blob_id)) for match in found}
        if len(found) == 1 and (found[0].start, found[0].stop, found[0].distance) == (0, sample.items, 0):
            return found
        refined = refine_ends(
            found, sample.items, max(1, row_items(dtype, shape)), lambda blob_id: _items(blobs[blob_id]), content.agrees
        )
        return list(_cut(refined, cut_nbytes(dtype) // sample.item_nbytes, sample.items))
    except Damaged as error:
        log.error("%s; no ranges are aligned", error)
        return []


def _cut(matches: Sequence[PartialMatch], step: int, items: int) -> Iterator[PartialMatch]:
    """Yield matches as far as they are whole steps of a tensor of so many items, so that no part has half a block."""
    for match in matches:
        start = -(-match.start // step) * step
        stop = match.stop if match.stop == items else match.stop // step * step
        if start < stop:
            yield replace(match, start=start, stop=stop)


def _saved_bits(matches: Sequence[PartialMatch], standalone_bits: float) -> float:
    return sum((match.stop - match.start) * (standalone_bits - match.bits) for match in matches)


def _items(blob: Blob) -> int:
    return blob.nbytes // item_nbytes(blob.dtype)
