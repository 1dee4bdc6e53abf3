"""Owns the backfill: signatures, sketches, minhash samples and index keys made anew from what is stored, for blobs of a
rebuilt catalog or of a commit that was redone from the log. Used by one thread.

The pack lock is not needed: a blob that others collect or rebase meanwhile keeps its bytes as long as it is open,
and the transaction that writes down what was found looks whether it is still there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zipfs.bases.similarity.feature_reader import READ_ANEW_NBYTES, read_sample, read_sketch
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.bases.similarity.member_sample import member_sample, parse_member_sample
from zipfs.bases.similarity.minhash import LEAST_ITEMS, VERSION, MinhashSample
from zipfs.bases.similarity.signature import signature
from zipfs.bases.similarity.sketch import LEAST_MEMBER_NBYTES, LEAST_NBYTES
from zipfs.codec import item_nbytes
from zipfs.errors import Damaged
from zipfs.store.catalog.writes import Transaction
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.objects.values import Blob, BlobId
from zipfs.store.store import Store

_COMMIT_EVERY = 256
_SHORTEN_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read of a blob; `sample` is None of what has none, and of what is only sketched."""

    blob: Blob
    features: TensorFeatures | None
    sample: MinhashSample | None


def backfill_sketches(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Give every tensor that has no signature what it is compared by; return how many. Damaged ones are passed over.

    Those that have none any more became bases or members in a commit that was redone from the log after a kill. Their
    index keys are set as well. Samples of members that an older ZipFS has kept as those of bases are shortened.
    """
    with store.transaction():
        pass  # applies what a killed process has logged
    _shorten_samples(store)
    blob_ids = store.catalog.blobs_without_signature(LEAST_NBYTES, LEAST_MEMBER_NBYTES)
    return _backfill(store, blob_ids, _features, lambda done: report("sketching", done, len(blob_ids)))


def backfill_samples(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Sample every tensor that has no sample; return how many were read. Damaged ones are passed over.

    Reads and decodes them from end to end.
    """
    blob_ids = store.catalog.blobs_without_samples(LEAST_ITEMS, READ_ANEW_NBYTES)
    return _backfill(store, blob_ids, _sample, lambda done: report("sampling", done, len(blob_ids)))


def put_sample(txn: Transaction, blob: Blob, sample: MinhashSample, *, is_member: bool) -> None:
    """Have a blob be found by ranges of others if it is standalone, and by equal ones alone if it is not."""
    kept = sample.kept(is_member=False)
    if is_member:
        txn.put_samples(blob.id, member_sample(sample).encode())
        txn.drop_index_keys(blob.id, kept.index_keys)
        return
    if blob.nbytes > READ_ANEW_NBYTES:
        txn.put_samples(blob.id, kept.encode())
    else:
        txn.drop_samples(blob.id)
    txn.put_index_keys(blob.id, kept.index_keys)


def _shorten_samples(store: Store) -> None:
    after = 0
    while found := store.catalog.members_with_samples_of_version(VERSION, after, _SHORTEN_AT_ONCE):
        with store.transaction() as txn:
            for one in found:
                sample = parse_member_sample(one.samples, one.nbytes // item_nbytes(one.dtype))
                if sample is not None and txn.catalog.is_member(one.blob_id):
                    txn.put_samples(one.blob_id, sample.encode())
        after = found[-1].blob_id


def _backfill(
    store: Store, blob_ids: list[BlobId], read: Callable[[Store, OpenBlob], _Found], report: Callable[[int], None]
) -> int:
    found: list[_Found] = []
    for done, blob_id in enumerate(blob_ids):
        try:
            found.append(read(store, store.open_blob(blob_id)))
        except Damaged:
            continue
        finally:
            report(done + 1)
        if len(found) == _COMMIT_EVERY:
            _put(store, found)
    _put(store, found)
    return len(blob_ids)


def _features(store: Store, opened: OpenBlob) -> _Found:
    """Sketch a tensor. It is sampled as well if that takes no time, or if its sample is that of what it was before."""
    blob = opened.blob
    made = read_sketch(store, opened)
    features = None if made is None else TensorFeatures(made, signature(made, blob.dtype))
    is_sampled = blob.nbytes <= READ_ANEW_NBYTES or store.catalog.has_samples(blob.id)
    return _Found(blob, features, read_sample(store, opened) if is_sampled else None)


def _sample(store: Store, opened: OpenBlob) -> _Found:
    return _Found(opened.blob, None, read_sample(store, opened))


def _put(store: Store, found: list[_Found]) -> None:
    with store.transaction() as txn:
        for one in found:
            is_member = txn.catalog.is_member(one.blob.id)
            if is_member is None:
                continue
            if one.features is not None:
                txn.put_signature(one.blob.id, one.features.signature)
                if one.blob.nbytes > READ_ANEW_NBYTES:
                    txn.put_sketch(one.blob.id, one.features.sketch)
            if one.sample is not None:
                put_sample(txn, one.blob, one.sample, is_member=is_member)
    found.clear()
