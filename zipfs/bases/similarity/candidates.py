"""Owns the search of the store for tensors that may be a base of a new one.

Of each group that is asked for (one dtype, one length) the signatures of what is standalone are kept in memory, 40
bytes a tensor, and the groups used last up to a limit.  Sketches are read of the few that are near.  Used by one
thread, which holds the pack lock from `begin` until what it noted is committed or forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zipfs.bases.similarity.index import GroupIndex
from zipfs.bases.similarity.signature import as_words
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store

_MEMORY_NBYTES: Final = 32 << 20
_AT_LEAST: Final = 4
_AT_MOST: Final = 32
_NBYTES_PER_CANDIDATE: Final = 1024
"""The search costs in proportion to what it may gain, or thousands of small tensors would take for ever."""

_MEMBERS: Final = 512
"""Members of a base that are looked at, the newest."""


class Search:
    """Candidates among what a store holds and what is being added to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: OrderedDict[tuple[str, int], _Group] = OrderedDict()
        self._segment = 0
        self._added: dict[int, _Added] = {}

    def begin(self) -> None:
        """Look at the catalog anew: others may have changed it since. What was noted before is forgotten."""
        self._added.clear()
        segment = self._store.catalog.position().segment
        if segment != self._segment:
            # A new segment comes with a collection: before it members may have become bases, with ids of any age.
            self._groups.clear()
            self._segment = segment
        for group in self._groups.values():
            group.current = False

    def add(self, blob_id: int, dtype: str, nbytes: int, sketch: bytes, signature: bytes, base_id: int | None) -> None:
        """Note a tensor that is not in the catalog yet; `base_id` says what it is coded against, as in a plan."""
        self._added[blob_id] = _Added(sketch, signature, nbytes, base_id)
        if base_id is None:
            self._group(dtype, nbytes).extend([(blob_id, signature)])

    def forget(self, blob_id: int) -> None:
        """A tensor that was noted will not come."""
        self._added.pop(blob_id, None)

    def near(self, dtype: str, nbytes: int, signature: bytes) -> list[tuple[int, bytes]]:
        """(blob id, sketch) of tensors that may be bases of one with this signature, the likeliest first."""
        at_most = min(max(nbytes // _NBYTES_PER_CANDIDATE, _AT_LEAST), _AT_MOST)
        ids: list[BlobId] = self._group(dtype, nbytes).index.near(as_words(signature)[0], at_most).tolist()
        wanted = [blob_id for blob_id in ids if blob_id not in self._added]
        found = self._store.catalog.sketches_of_standalone(wanted)
        found |= {blob_id: self._added[blob_id].sketch for blob_id in ids if blob_id in self._added}
        return [(blob_id, found[blob_id]) for blob_id in ids if blob_id in found]

    def siblings(self, base_id: int, nbytes: int, signature: bytes, at_most: int) -> list[bytes]:
        """Sketches of the members of a base that are nearest to a tensor with this signature."""
        rows: list[tuple[int, bytes]] = [*self._store.catalog.signatures_of_members(base_id, nbytes, _MEMBERS)]
        rows += [
            (blob_id, added.signature)
            for blob_id, added in self._added.items()
            if added.base_id == base_id and added.nbytes == nbytes
        ]
        if not rows:
            return []
        words = as_words(b"".join(row[1] for row in rows))
        distances = np.bitwise_count(words ^ as_words(signature)[0]).sum(axis=1, dtype=np.int64)
        nearest = [rows[at][0] for at in np.argsort(distances, kind="stable")[:at_most].tolist()]
        stored = self._store.catalog.sketches(sorted(nearest))
        return [*stored.values()] + [self._added[one].sketch for one in nearest if one in self._added]

    def _group(self, dtype: str, nbytes: int) -> _Group:
        key = dtype, nbytes
        group = self._groups.setdefault(key, _Group())
        self._groups.move_to_end(key)
        if not group.current:
            group.extend(self._store.catalog.signatures_of_standalone(dtype, nbytes, group.last_id))
            group.current = True
            self._make_room()
        return group

    def _make_room(self) -> None:
        nbytes = sum(group.index.nbytes for group in self._groups.values())
        while nbytes > _MEMORY_NBYTES and len(self._groups) > 1:
            _, oldest = self._groups.popitem(last=False)
            nbytes -= oldest.index.nbytes


@dataclass(frozen=True, slots=True)
class _Added:
    """A tensor that is being added."""

    sketch: bytes
    signature: bytes
    nbytes: int
    base_id: int | None


class _Group:
    """`current` once it holds what the catalog does."""

    def __init__(self) -> None:
        self.index = GroupIndex()
        self.last_id = 0
        self.current = False

    def extend(self, rows: Sequence[tuple[int, bytes]]) -> None:
        if rows:
            ids = np.array([row[0] for row in rows], np.int64)
            self.index.extend(ids, as_words(b"".join(row[1] for row in rows)))
            self.last_id = int(ids[-1])
