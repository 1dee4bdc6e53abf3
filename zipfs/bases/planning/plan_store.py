"""Reads what the catalog knows of the tensors and has a plan made for each cluster of them.

Only signatures are held for a whole group of comparable tensors; sketches are read a cluster at a time.  Used by the
thread whose store it is; the store may be changed by others meanwhile, and whoever carries a plan out looks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zipfs.bases.planning.clusters import clusters
from zipfs.bases.planning.costs import make_cluster
from zipfs.bases.planning.planner import DEFAULT_PRICES, OUTSIDE, Plan, Prices, Tensor, plan
from zipfs.bases.similarity.signature import as_words
from zipfs.bases.similarity.sketch import LEAST_NBYTES
from zipfs.store.catalog.queries import SOUND_SIGNATURE, WHOLE_VIEW
from zipfs.store.disk.progress import Report
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store

_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that can be compared: one dtype, one length in bytes."""

    dtype: str
    nbytes: int
    tensors: int


def groups(store: Store) -> list[Group]:
    """Groups of two tensors or more, those first that hold most bytes."""
    rows = store.catalog.query(
        "SELECT dtype, nbytes, count(*) FROM blobs WHERE dtype <> '' AND nbytes >= ? GROUP BY dtype, nbytes"
        " HAVING count(*) > 1 ORDER BY nbytes * count(*) DESC",
        (LEAST_NBYTES,),
    )
    return [Group(*row) for row in rows]


def survey(store: Store, report: Report, prices: Prices = DEFAULT_PRICES) -> Iterator[Plan]:
    """A plan for every cluster in the store; empty plans tell what a cluster takes."""
    found = groups(store)
    total = sum(group.tensors for group in found)
    done = 0
    for group in found:
        report("comparing tensors", done, total)
        for ids in _clusters(store, group):
            store.stop.check()
            report("comparing tensors", done, total)
            yield _plan(store, group, ids, prices)
        done += group.tensors
    report("comparing tensors", total, total)


def _clusters(store: Store, group: Group) -> Iterator[list[int]]:
    """Blob ids of tensors that may be related."""
    rows = store.catalog.query(
        "SELECT id, signature FROM blobs JOIN signatures ON blob_id = id"
        f" WHERE dtype = ? AND dtype <> '' AND nbytes = ? AND {SOUND_SIGNATURE} ORDER BY id",
        (group.dtype, group.nbytes),
    )
    ids = np.array([row[0] for row in rows], np.int64)
    words = as_words(b"".join(row[1] for row in rows))
    for found in clusters(words):
        yield ids[found].tolist()


def plan_family(store: Store, base_id: BlobId, least_nbytes: int, at_most: int, prices: Prices) -> Plan | None:
    """A plan for a base of `least_nbytes` or more and what is coded against the whole of it.

    None if that are more than `at_most` tensors, or if the blob is no base of a comparable tensor any more.
    """
    row = store.catalog.row(
        "SELECT dtype, nbytes FROM blobs WHERE id = ? AND base_id IS NULL AND nbytes >= ?", (base_id, least_nbytes)
    )
    if row is None:
        return None
    members = store.catalog.query(
        f"SELECT id FROM blobs WHERE base_id = ? AND {WHOLE_VIEW} AND dtype = ? AND nbytes = ? LIMIT ?",
        (base_id, *row, at_most),
    )
    if not 0 < len(members) < at_most:
        return None
    group = Group(row[0], row[1], len(members) + 1)
    return _plan(store, group, sorted([base_id, *(member[0] for member in members)]), prices)


def _plan(store: Store, group: Group, ids: Sequence[int], prices: Prices) -> Plan:
    tensors: list[Tensor] = []
    sketches: list[bytes] = []
    inside = frozenset(ids)
    for start in range(0, len(ids), _ROWS):
        some = ids[start : start + _ROWS]
        marks = ", ".join("?" * len(some))
        of_bases = store.catalog.query(
            f"SELECT base_id, id, {WHOLE_VIEW} FROM blobs WHERE base_id IN ({marks})"
            " AND id IN (SELECT blob_id FROM extents)",
            some,
        )
        pinned = {base_id for base_id, blob_id, whole in of_bases if not whole or blob_id not in inside}
        rows = store.catalog.query(
            f"SELECT id, stored_nbytes, base_id, {WHOLE_VIEW},"
            " EXISTS (SELECT 1 FROM extents WHERE extents.blob_id = id), sketch"
            f" FROM blobs JOIN sketches ON sketches.blob_id = id WHERE id IN ({marks})"
            " AND typeof(sketch) = 'blob' AND typeof(stored_nbytes) = 'integer' ORDER BY id",
            some,
        )
        for blob_id, stored_nbytes, base_id, whole, needed, sketch in rows:
            base = base_id if base_id is None or whole else OUTSIDE
            tensors.append(Tensor(blob_id, stored_nbytes, base, bool(needed), blob_id in pinned))
            sketches.append(sketch)
    return plan(make_cluster(group.dtype, group.nbytes, tensors, sketches), prices)
