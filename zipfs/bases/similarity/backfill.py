"""Owns the backfill: sketches and minhash samples made anew from what is stored, for blobs of a rebuilt catalog.
Used by one thread.

The pack lock is not needed: a blob that others collect or rebase meanwhile keeps its bytes as long as it is open,
and the transaction that writes down what was found looks whether it is still there.
"""

from __future__ import annotations

from collections.abc import Callable

from zipfs.bases.similarity.features import TensorFeatures, read_features
from zipfs.bases.similarity.minhash import LEAST_ITEMS, MinhashSample, SampleScan, parse_sample
from zipfs.bases.similarity.sketch import LEAST_MEMBER_NBYTES, LEAST_NBYTES
from zipfs.codec import FRAME_NBYTES
from zipfs.errors import Damaged
from zipfs.store.catalog.writes import Transaction
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import BlobId, frame_count
from zipfs.store.store import Store

_COMMIT_EVERY = 256


def backfill_sketches(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Sketch every tensor that has no signature, and set its index keys; return how many. Damaged ones are passed over.

    Those that have none any more became bases or members in a commit that was redone from the log after a kill.
    """
    with store.transaction():
        pass  # applies what a killed process has logged
    blob_ids = store.catalog.blobs_without_signature(LEAST_NBYTES, LEAST_MEMBER_NBYTES)
    made: dict[BlobId, TensorFeatures] = {}
    for done, blob_id in enumerate(blob_ids):
        try:
            features = _features(store, store.open_blob(blob_id))
        except Damaged:
            continue
        finally:
            report("sketching", done + 1, len(blob_ids))
        if features is not None:
            made[blob_id] = features
        if len(made) == _COMMIT_EVERY:
            _put(store, made)
    _put(store, made)
    return len(blob_ids)


def backfill_samples(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Sample every tensor that has no sample; return how many were read. Damaged ones are passed over.

    Reads and decodes them from end to end.
    """
    blob_ids = store.catalog.blobs_without_samples(LEAST_ITEMS)
    for start in range(0, len(blob_ids), _COMMIT_EVERY):
        found: list[tuple[BlobId, MinhashSample]] = []
        for done, blob_id in enumerate(blob_ids[start : start + _COMMIT_EVERY]):
            try:
                sample = _sample(store, store.open_blob(blob_id))
            except Damaged:
                sample = None
            if sample is not None:
                found.append((blob_id, sample))
            report("sampling", start + done + 1, len(blob_ids))
        with store.transaction() as txn:
            for blob_id, sample in found:
                is_member = txn.catalog.is_member(blob_id)
                if is_member is None:
                    continue
                txn.put_samples(blob_id, sample.kept(is_member=is_member).encode())
                if not is_member:
                    txn.put_index_keys(blob_id, sample.index_keys)
    return len(blob_ids)


def set_index_keys(txn: Transaction, blob_id: BlobId, *, is_member: bool) -> None:
    """Have a blob be found by ranges of others if it is standalone, and no more if it is not."""
    stored = txn.catalog.samples(blob_id)
    sample = None if stored is None else parse_sample(stored)
    if sample is None:
        return
    if is_member:
        txn.drop_index_keys(blob_id, sample.index_keys)
    else:
        txn.put_index_keys(blob_id, sample.index_keys)


def _sample(store: Store, opened: OpenBlob) -> MinhashSample | None:
    blob = opened.blob
    scan = SampleScan(blob.nbytes, blob.dtype, blob.shape)
    for index in range(frame_count(blob.nbytes)):
        store.stop.check()
        scan.feed(index * FRAME_NBYTES, store.frames.decode(opened, index))
    return scan.sample()


def _features(store: Store, opened: OpenBlob) -> TensorFeatures | None:
    def read(offset: int, nbytes: int) -> bytes:
        return bytes(store.frames.range(opened, offset, nbytes))

    return read_features(read, opened.blob.nbytes, opened.blob.dtype)


def _put(store: Store, made: dict[BlobId, TensorFeatures]) -> None:
    with store.transaction() as txn:
        for blob_id, features in made.items():
            is_member = txn.catalog.is_member(blob_id)
            if is_member is not None:
                txn.put_sketch(blob_id, features.sketch, features.signature)
                set_index_keys(txn, blob_id, is_member=is_member)
    made.clear()
