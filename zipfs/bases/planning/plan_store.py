"""Reads what the catalog knows of the tensors and has a plan made for each cluster of them.

Only signatures are held for a whole group of comparable tensors; sketches are read a cluster at a time, those of small
tensors from their bytes.  Used by the
thread whose store it is; the store may be changed by others meanwhile, and whoever carries a plan out looks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from zipfs.bases.planning.clusters import clusters
from zipfs.bases.planning.costs import make_cluster
from zipfs.bases.planning.planner import DEFAULT_PRICES, OUTSIDE, Prices, RebasePlan, Tensor, plan
from zipfs.bases.similarity.feature_reader import FeatureReader
from zipfs.bases.similarity.signature import as_words
from zipfs.bases.similarity.sketch import LEAST_NBYTES
from zipfs.store.catalog.similarity_queries import TensorGroup
from zipfs.store.disk.progress import Report
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store

_ROWS: Final = 1000


def plan_store(store: Store, report: Report, prices: Prices = DEFAULT_PRICES) -> Iterator[RebasePlan]:
    """Yield a plan for every cluster in the store; empty plans tell what a cluster takes."""
    found = store.catalog.tensor_groups(LEAST_NBYTES)
    total = sum(group.tensors for group in found)
    done = 0
    reader = FeatureReader(store)
    for group in found:
        report("comparing tensors", done, total)
        for ids in _clusters(store, group):
            store.stop.check()
            report("comparing tensors", done, total)
            yield _plan(store, reader, group, ids, prices)
        done += group.tensors
    report("comparing tensors", total, total)


def _clusters(store: Store, group: TensorGroup) -> Iterator[list[BlobId]]:
    """Yield blob ids of tensors that may be related."""
    rows = store.catalog.signatures_of_group(group.dtype, group.nbytes)
    ids = np.array([row[0] for row in rows], np.int64)
    words = as_words(b"".join(row[1] for row in rows))
    for found in clusters(words):
        yield ids[found].tolist()


def plan_family(
    store: Store, reader: FeatureReader, base_id: BlobId, least_nbytes: int, at_most: int, prices: Prices
) -> RebasePlan | None:
    """Return a plan for a base of `least_nbytes` or more and what is coded against the whole of it.

    None if that are more than `at_most` tensors, or if the blob is no base of a comparable tensor any more.
    """
    base = store.catalog.dtype_and_nbytes_of_standalone(base_id, least_nbytes)
    if base is None:
        return None
    members = store.catalog.whole_view_members(base_id, *base, at_most)
    if not 0 < len(members) < at_most:
        return None
    return _plan(store, reader, TensorGroup(*base, len(members) + 1), sorted([base_id, *members]), prices)


def _plan(store: Store, reader: FeatureReader, group: TensorGroup, ids: Sequence[BlobId], prices: Prices) -> RebasePlan:
    tensors: list[Tensor] = []
    sketches: list[bytes] = []
    inside = frozenset(ids)
    for start in range(0, len(ids), _ROWS):
        some = ids[start : start + _ROWS]
        members = store.catalog.used_members(some)
        pinned = {base_id for base_id, blob_id, whole in members if not whole or blob_id not in inside}
        of_blobs = reader.sketches(some, group.nbytes)
        for blob_id, stored_nbytes, base_id, whole, needed in store.catalog.planned_tensors(some):
            if blob_id not in of_blobs:
                continue
            base = base_id if base_id is None or whole else OUTSIDE
            tensors.append(Tensor(blob_id, stored_nbytes, base, bool(needed), blob_id in pinned))
            sketches.append(of_blobs[blob_id])
    return plan(make_cluster(group.dtype, group.nbytes, tensors, sketches), prices)
