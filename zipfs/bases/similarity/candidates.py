"""Owns the candidates: which blobs a new one may equal, be coded against, or share ranges with.

There are those of the catalog, and those written and not committed yet, which are kept here alone. Of each group that
is asked for (one dtype, one length) the signatures of what is standalone are kept in memory, 40 bytes a tensor, and the
groups used last up to a limit.  Sketches are read of the few that are near, by a `FeatureReader`. Used by one thread,
which holds the pack lock from `begin` until what it added is committed or forgotten.

What is still being coded may or may not turn out to have a base, which decides by what it is found. Such blobs come in
in the order in which they were added; one that an answer depends on is waited for, and all before it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from zipfs.bases.similarity.alignment import Candidate
from zipfs.bases.similarity.feature_reader import READ_ANEW_NBYTES, FeatureReader
from zipfs.bases.similarity.features import TensorFeatures
from zipfs.bases.similarity.index import GroupIndex
from zipfs.bases.similarity.member_sample import member_sample
from zipfs.bases.similarity.minhash import MinhashSample
from zipfs.bases.similarity.signature import RELATED, as_words
from zipfs.bases.similarity.sketch import LEAST_MEMBER_NBYTES
from zipfs.store.catalog.writes import Transaction
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import Blob, BlobId
from zipfs.store.store import Store

_MEMORY_NBYTES: Final = 32 << 20
_AT_LEAST: Final = 4
_AT_MOST: Final = 32
_NBYTES_PER_CANDIDATE: Final = 1024
"""The search costs in proportion to what it may gain, or thousands of small tensors would take for ever."""

_SIBLINGS: Final = 512
"""Members of a base that are looked at, the newest."""

_LEAST_LOOKED_UP: Final = 16
_NBYTES_PER_LOOK_UP: Final = 4096
_LOOKED_UP: Final = 128
_LOOKED_UP_PER_MIB: Final = 16
_LOOKED_UP_MAX: Final = 2048
"""Hashes of a tensor that are looked up: a tensor that is put together of many others needs some for each."""
_ALIGNED: Final = 16
_ALIGNED_MAX: Final = 256
_NEW_PER_KEY: Final = 16
_MEMBERS: Final = 64

IsMember = Callable[[bool], bool | None]
"""Returns whether a blob that is being coded has a base in the end; None if that is not known, unless it is to wait."""


class CandidateSearch:
    """Candidates among what a store holds and what is being added to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reader = FeatureReader(store)
        self._groups: OrderedDict[tuple[str, int], _Group] = OrderedDict()
        self._segment = 0
        self._new: dict[BlobId, _New] = {}
        self._coming: deque[_Coming] = deque()
        self._by_fingerprint: dict[tuple[bytes, int], list[BlobId]] = defaultdict(list)
        self._by_key: dict[int, list[BlobId]] = defaultdict(list)
        self._members: dict[BlobId, list[BlobId]] = defaultdict(list)

    def begin(self) -> None:
        """Look at the catalog anew: others may have changed it since. What was added before is forgotten."""
        for state in (self._new, self._coming, self._by_fingerprint, self._by_key, self._members):
            state.clear()
        segment = self._store.catalog.position().segment
        if segment != self._segment:
            # A new segment comes with a collection: before it members may have become bases, with ids of any age.
            self._groups.clear()
            self._segment = segment
        for group in self._groups.values():
            group.current = False

    def add(self, blob: Blob, features: TensorFeatures | None, sample: MinhashSample | None) -> None:
        """Have a blob be found that is not in the catalog yet."""
        self.expect(blob, features, sample, lambda wait: blob.base is not None)

    def expect(
        self, blob: Blob, features: TensorFeatures | None, sample: MinhashSample | None, is_member: IsMember
    ) -> None:
        """Have a blob be found that is being coded; its base counts if `is_member` says so. Of it no frames count."""
        self._coming.append(_Coming(blob, features, sample, is_member))
        self._take_in()

    def _take_in(self, concerns: Callable[[_Coming], bool] | None = None) -> None:
        """Take in what has been added, as far as it is known whether it has a base, or an answer depends on it.

        Raises what waiting for it raises.
        """
        self._take_in_first(0)
        if concerns is not None and self._coming:
            self._take_in_first(max((at + 1 for at, coming in enumerate(self._coming) if concerns(coming)), default=0))

    def _take_in_first(self, waited_for: int) -> None:
        while self._coming:
            coming = self._coming[0]
            is_member = coming.is_member(waited_for > 0)
            if is_member is None:
                return
            self._coming.popleft()
            waited_for -= 1
            self._add(coming.blob if is_member else replace(coming.blob, base=None), coming.features, coming.sample)

    def _add(self, blob: Blob, features: TensorFeatures | None, sample: MinhashSample | None) -> None:
        is_member = blob.base is not None
        if is_member and blob.nbytes < LEAST_MEMBER_NBYTES:
            features = None
        kept = None
        if sample is not None:
            of_place = member_sample(sample) if is_member else sample.kept(is_member=False)
            kept = Candidate(blob.id, blob.dtype, of_place)
        self._new[blob.id] = _New(blob, features, kept)
        self._by_fingerprint[blob.fingerprint, blob.nbytes].append(blob.id)
        if features is not None and not is_member:
            self._group(blob.dtype, blob.nbytes).extend([(blob.id, features.signature)])
        if kept is None:
            return
        if blob.base is not None:
            self._members[blob.base.blob_id].append(blob.id)
            return
        for key in kept.index_keys:
            if len(self._by_key[key]) < _NEW_PER_KEY:
                self._by_key[key].append(blob.id)

    def forget(self, blob_id: BlobId) -> None:
        """Have a blob be found no more that was added and will not come."""
        if blob_id not in self._new:
            self._coming = deque(coming for coming in self._coming if coming.blob.id != blob_id)
            return
        blob = self._new.pop(blob_id).blob
        self._by_fingerprint[blob.fingerprint, blob.nbytes].remove(blob_id)

    def write(self, txn: Transaction) -> None:
        """Write down what new blobs are found by, in the transaction that registers them."""
        self._take_in(lambda coming: True)
        for blob_id, new in self._new.items():
            if new.features is not None:
                txn.put_signature(blob_id, new.features.signature)
                if new.blob.nbytes > READ_ANEW_NBYTES:
                    txn.put_sketch(blob_id, new.features.sketch)
                else:
                    self.reader.remember(blob_id, new.features.sketch)
        for blob_id, new in self._new.items():
            if new.sample is not None:
                if new.sample.is_member or new.blob.nbytes > READ_ANEW_NBYTES:
                    txn.put_samples(blob_id, new.sample.sample.encode())
                txn.put_index_keys(blob_id, new.sample.index_keys)

    def maybe_equal(self, fingerprint: bytes, nbytes: int) -> Iterator[BlobId]:
        """Yield the blobs that probably hold the very same bytes, new ones first."""
        self._take_in(lambda coming: (coming.blob.fingerprint, coming.blob.nbytes) == (fingerprint, nbytes))
        yield from self._by_fingerprint[fingerprint, nbytes]
        for blob in self._store.catalog.blobs_by_fingerprint(fingerprint, nbytes):
            yield blob.id

    def of_same_length(self, dtype: str, nbytes: int, signature: bytes) -> list[tuple[BlobId, bytes]]:
        """Return (blob id, sketch) of tensors that may be bases of one with this signature, the likeliest first."""
        self._take_in(lambda coming: coming.is_near(dtype, nbytes, signature))
        at_most = min(max(nbytes // _NBYTES_PER_CANDIDATE, _AT_LEAST), _AT_MOST)
        ids: list[BlobId] = self._group(dtype, nbytes).index.near(as_words(signature)[0], at_most).tolist()
        stored = self._store.catalog.standalone_of([blob_id for blob_id in ids if blob_id not in self._new])
        found = self.reader.sketches(stored, nbytes)
        found |= self._new_sketches(ids)
        return [(blob_id, found[blob_id]) for blob_id in ids if blob_id in found]

    def siblings(self, base_id: BlobId, nbytes: int, signature: bytes, at_most: int) -> list[bytes]:
        """Return sketches of the members of a base that are nearest to a tensor with this signature."""
        self._take_in(lambda coming: coming.may_rest_on({base_id}))
        rows: list[tuple[BlobId, bytes]] = [*self._store.catalog.signatures_of_members(base_id, nbytes, _SIBLINGS)]
        rows += [
            (blob_id, new.features.signature)
            for blob_id, new in self._new.items()
            if new.features is not None and new.blob.nbytes == nbytes and new.is_whole_member_of(base_id)
        ]
        if not rows:
            return []
        words = as_words(b"".join(row[1] for row in rows))
        distances = np.bitwise_count(words ^ as_words(signature)[0]).sum(axis=1, dtype=np.int64)
        nearest = [rows[at][0] for at in np.argsort(distances, kind="stable")[:at_most].tolist()]
        stored = sorted(blob_id for blob_id in nearest if blob_id not in self._new)
        return [*self.reader.sketches(stored, nbytes).values(), *self._new_sketches(nearest).values()]

    def with_common_keys(self, sample: MinhashSample, nbytes: int, besides: BlobId | None) -> list[Candidate]:
        """Return standalone tensors that have most sampled places in common with one of `nbytes` bytes.

        If `besides` is the only one that is stored, it may be left out.
        """
        mib = nbytes >> 20
        looked_up = min(nbytes // _NBYTES_PER_LOOK_UP + _LEAST_LOOKED_UP, _LOOKED_UP) + _LOOKED_UP_PER_MIB * mib
        looked_up = min(looked_up, _LOOKED_UP_MAX) * (8 // sample.stride)
        keys = sample.hashes[:looked_up].view(np.int64).tolist()
        self._take_in(lambda coming: not coming.index_keys.isdisjoint(keys))
        at_most = min(_ALIGNED + mib, _ALIGNED_MAX)
        counted = Counter(blob_id for key in keys for blob_id in self._by_key.get(key, ()))
        new = self._new_samples(blob_id for blob_id, _ in counted.most_common(at_most))
        stored = self._store.catalog.blobs_with_index_keys(keys, at_most)
        return [*new, *self.reader.samples_of_standalone(stored, None if new else besides)]

    def members_of(self, base_ids: set[BlobId]) -> list[Candidate]:
        """Return the newest tensors that are coded against some bases."""
        self._take_in(lambda coming: coming.may_rest_on(base_ids))
        new = self._new_samples(blob_id for base_id in base_ids for blob_id in self._members[base_id][-_MEMBERS:])
        return [*new, *self.reader.samples_of_members(base_ids, _MEMBERS)]

    def _new_sketches(self, blob_ids: Iterable[BlobId]) -> dict[BlobId, bytes]:
        found = ((blob_id, self._new.get(blob_id)) for blob_id in blob_ids)
        return {blob_id: new.features.sketch for blob_id, new in found if new is not None and new.features is not None}

    def _new_samples(self, blob_ids: Iterable[BlobId]) -> list[Candidate]:
        found = [self._new[blob_id] for blob_id in blob_ids if blob_id in self._new]
        return [new.sample for new in found if new.sample is not None]

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
class _New:
    """A blob that is being added, and what it is found by."""

    blob: Blob
    features: TensorFeatures | None
    sample: Candidate | None

    def is_whole_member_of(self, base_id: BlobId) -> bool:
        base = self.blob.base
        return base is not None and base.blob_id == base_id and base.view == View(0, self.blob.nbytes)


@dataclass(slots=True)
class _Coming:
    """A blob that is being coded, with the base that it may have in the end."""

    blob: Blob
    features: TensorFeatures | None
    sample: MinhashSample | None
    is_member: IsMember
    _index_keys: frozenset[int] | None = field(default=None)

    @property
    def index_keys(self) -> frozenset[int]:
        """Return the hashes by which it is looked up if it has no base, and maybe some more."""
        if self._index_keys is None:
            self._index_keys = frozenset(() if self.sample is None else self.sample.possible_index_keys())
        return self._index_keys

    def is_near(self, dtype: str, nbytes: int, signature: bytes) -> bool:
        """Return whether it may be a base of a tensor, if it has none itself."""
        if self.features is None or (self.blob.dtype, self.blob.nbytes) != (dtype, nbytes):
            return False
        differing = int.from_bytes(self.features.signature, "little") ^ int.from_bytes(signature, "little")
        return differing.bit_count() <= RELATED

    def may_rest_on(self, base_ids: set[BlobId]) -> bool:
        return self.blob.base is not None and self.blob.base.blob_id in base_ids


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
