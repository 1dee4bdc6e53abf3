"""Owns the reading of sketches and minhash samples: from the catalog, or from a tensor itself if that keeps none.

Of a tensor of one frame, which is decoded in a fraction of a millisecond, the catalog keeps no sketch, and no minhash
sample if it is standalone: they would take hundredths of what the tensor takes. What was read last stays in memory.
Used by one thread, which is in no transaction when it reads.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from zipfs.bases.similarity.alignment import Candidate
from zipfs.bases.similarity.member_sample import parse_member_sample
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan, parse_sample
from zipfs.bases.similarity.sketch import LEAST_NBYTES, sketch, sketch_whole
from zipfs.codec import FRAME_NBYTES, item_nbytes
from zipfs.errors import Damaged
from zipfs.store.catalog.similarity_queries import StoredSamples
from zipfs.store.frames.decode_plan import Target
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

READ_ANEW_NBYTES: Final = FRAME_NBYTES
"""Up to this length a tensor's sketch, and its sample if it is standalone, are read from its bytes when needed."""

_SKETCHES: Final = 4096
_SAMPLES: Final = 1024
"""So many stay in memory: 8 and 4 MiB at most."""
_READ_AT_ONCE: Final = 16


def read_sketch(store: Store, opened: OpenBlob) -> bytes | None:
    """Sketch a stored tensor; None of plain bytes and of what is too small to gain by a base. Raises Damaged."""
    blob, frames = opened.blob, store.frames
    if not blob.dtype or blob.nbytes < LEAST_NBYTES:
        return None
    if blob.nbytes > blob.step_nbytes:
        return sketch(lambda offset, nbytes: bytes(frames.range(opened, offset, nbytes)), blob.nbytes, blob.dtype)
    # A base is likely to be wanted again, a member is not.
    return sketch_whole(frames.frame(opened, 0) if blob.base is None else frames.decode(opened, 0), blob.dtype)


def read_sample(store: Store, opened: OpenBlob) -> MinhashSample | None:
    """Sample a stored tensor, decoding all of it; None of one in which nothing is found. Raises Damaged, Stopped."""
    blob = opened.blob
    scan = SampleScan(blob.nbytes, blob.dtype, blob.shape)
    for index in range(blob.frame_count):
        store.stop.check()
        scan.feed(index * blob.step_nbytes, store.frames.decode(opened, index))
    return scan.sample()


class FeatureReader:
    """Reads sketches and minhash samples of stored tensors. What cannot be read is passed over."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sketches: OrderedDict[BlobId, bytes] = OrderedDict()
        self._samples: OrderedDict[BlobId, MinhashSample] = OrderedDict()

    def remember(self, blob_id: BlobId, made: bytes) -> None:
        """Keep a sketch in memory: that of a blob which is being registered may be wanted soon."""
        _keep(self._sketches, blob_id, made, _SKETCHES)

    def sketches(self, blob_ids: Sequence[BlobId], nbytes: int) -> dict[BlobId, bytes]:
        """Return the sketches of those of some blobs of `nbytes` bytes that are tensors, in their order."""
        if nbytes > READ_ANEW_NBYTES:
            kept = self._store.catalog.sketches(blob_ids)
            return {blob_id: kept[blob_id] for blob_id in blob_ids if blob_id in kept}
        found = {blob_id: self._sketches[blob_id] for blob_id in blob_ids if blob_id in self._sketches}
        missing = [blob_id for blob_id in blob_ids if blob_id not in found]
        for start in range(0, len(missing), _READ_AT_ONCE):
            found.update(self._read_sketches(missing[start : start + _READ_AT_ONCE]))
        for blob_id, made in found.items():
            self.remember(blob_id, made)
        return {blob_id: found[blob_id] for blob_id in blob_ids if blob_id in found}

    def samples_of_standalone(self, blob_ids: Sequence[BlobId], besides: BlobId | None) -> list[Candidate]:
        """Return those of some blobs that are coded standalone, with their samples; none if all are `besides`."""
        stored = self._store.catalog.samples_of_standalone(blob_ids)
        if all(one.blob_id == besides for one in stored):
            return []
        found = [(one, self._sample(one)) for one in stored]
        return [Candidate(one.blob_id, one.dtype, sample) for one, sample in found if sample is not None]

    def samples_of_members(self, base_ids: set[BlobId], at_most: int) -> Iterator[Candidate]:
        """Yield the newest blobs that are coded against each of some bases and have samples."""
        for one in self._store.catalog.samples_of_members(sorted(base_ids), at_most):
            sample = parse_member_sample(one.samples, one.nbytes // item_nbytes(one.dtype))
            if sample is not None:
                yield Candidate(one.blob_id, one.dtype, sample)

    def _read_sketches(self, blob_ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        """Yield the sketches of those of some blobs that are tensors of one frame; members are decoded together."""
        frames = self._store.frames
        members: list[Target] = []
        for opened in self._open(blob_ids):
            blob = opened.blob
            if not blob.dtype or not LEAST_NBYTES <= blob.nbytes <= READ_ANEW_NBYTES:
                continue
            if blob.base is not None and blob.frame_count == 1:
                members.append(Target(opened, 0, frames.buffers.take(blob.nbytes)))
            elif (made := self._tried(read_sketch, self._store, opened)) is not None:
                yield blob.id, made
        try:
            frames.decode_into(members)
        except Damaged:  # one of them is, which concerns no other
            for opened, *_ in members:
                if (made := self._tried(read_sketch, self._store, opened)) is not None:
                    yield opened.blob.id, made
            return
        for opened, _, raw in members:
            yield opened.blob.id, sketch_whole(raw, opened.blob.dtype)

    def _open(self, blob_ids: Sequence[BlobId]) -> list[OpenBlob]:
        try:
            found = self._store.open_blobs(blob_ids)
            return [found[blob_id] for blob_id in blob_ids if blob_id in found]
        except Damaged:  # one of them is, which concerns no other
            opened = [self._tried(self._store.open_blob, blob_id) for blob_id in blob_ids]
            return [one for one in opened if one is not None]

    def _tried(self, read: Callable[..., T | None], *arguments: object) -> T | None:
        """Return what `read` returns, None where something is damaged."""
        try:
            return read(*arguments)
        except Damaged as error:
            log.error("%s; nothing is compared with it", error)
            return None

    def _sample(self, stored: StoredSamples) -> MinhashSample | None:
        kept = parse_sample(stored.samples)
        if kept is not None and kept.items == stored.nbytes // item_nbytes(stored.dtype):
            return kept
        if stored.nbytes > READ_ANEW_NBYTES:
            return None
        sample = self._samples.get(stored.blob_id)
        if sample is None:
            opened = self._tried(self._store.open_blob, stored.blob_id)
            read = None if opened is None else self._tried(read_sample, self._store, opened)
            sample = None if read is None else read.kept(is_member=False)
        if sample is not None:
            _keep(self._samples, stored.blob_id, sample, _SAMPLES)
        return sample


def _keep(kept: OrderedDict[BlobId, T], blob_id: BlobId, value: T, at_most: int) -> None:
    kept[blob_id] = value
    kept.move_to_end(blob_id)
    if len(kept) > at_most:
        kept.popitem(last=False)
