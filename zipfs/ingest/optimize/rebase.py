"""Owns the rebase: stored blobs are encoded again, against another base or standalone, one pack at a time.

`store/publish.py` makes the pack part of the store; each blob is compared with its old form.
The blobs keep their ids and their content; the catalog says from then on that they are in the new pack. Their old forms
stay where they are, for readers that have them open, until a collection finds that their packs have become sparse. So a
kill at any instant costs space at most. One thread drives it and holds the pack lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from zipfs.bases.planning.planner import RebaseStep
from zipfs.bases.similarity.backfill import put_sample
from zipfs.bases.similarity.feature_reader import read_sample
from zipfs.bases.similarity.minhash import MinhashSample
from zipfs.errors import Damaged
from zipfs.ingest.encode_blob import BlobEncoder, BlobInWork
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.disk.stopping import Stop
from zipfs.store.frames.compare import same_bytes
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.frames.ordered import in_order
from zipfs.store.objects.base_view import View
from zipfs.store.objects.values import BlobId, PackName
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.publish import NewPack
from zipfs.store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RebaseUnit:
    """Steps of one plan, in its order, all of which go into one pack.

    The unit is given up if the blobs turn out so much larger than predicted that the plan's `gain_nbytes` is eaten up.
    """

    steps: tuple[RebaseStep, ...]
    gain_nbytes: int

    @property
    def nbytes(self) -> int:
        """Return raw bytes to code."""
        return sum(step.nbytes for step in self.steps)


@dataclass(slots=True)
class Rebased:
    """What became of some units: blobs that were rebased, their raw bytes, the stored bytes that they take less."""

    tensors: int = 0
    moved_nbytes: int = 0
    saved_nbytes: int = 0
    given_up: int = 0
    packs: set[PackName] = field(default_factory=set)
    """Those that the old forms are in."""

    def add(self, other: Rebased) -> None:
        self.tensors += other.tensors
        self.moved_nbytes += other.moved_nbytes
        self.saved_nbytes += other.saved_nbytes
        self.given_up += other.given_up
        self.packs |= other.packs


class Pace:
    """Holds its caller up so that no more than `rate` bytes pass in a second; raises Stopped once `stop` is set."""

    def __init__(self, rate: int | None, stop: Stop) -> None:
        self._rate = rate
        self._next_s = time.monotonic()
        self._stop = stop

    def passed(self, nbytes: int) -> None:
        if self._rate is not None:
            self._next_s = max(self._next_s, time.monotonic()) + nbytes / self._rate
            self._stop.wait(max(0.0, self._next_s - time.monotonic()))
        self._stop.check()


class _GivenUp(Exception):
    """A unit is not carried out; the message says why."""


def rebase(store: Store, executor: Executor, units: Sequence[RebaseUnit], pace: Pace) -> Rebased:
    """Carry out some units in one transaction. Raises Stopped, Damaged, OSError, and leaves nothing then."""
    faults.point("optimize.begin")
    with store.transaction():
        pass  # applies what a killed process has logged
    with NewPack(store, "optimize") as new:
        pack = _Pack(store, executor, pace, new)
        for unit in units:
            pack.add(unit)
        pack.finish()
    return pack.done


class _Pack:
    """A pack of rebased blobs."""

    def __init__(self, store: Store, executor: Executor, pace: Pace, pack: NewPack) -> None:
        self._store = store
        self._executor = executor
        self._pace = pace
        self._pack = pack
        self.writer = pack.writer
        self._encoder = BlobEncoder(pack.writer, store.frames, executor)
        self._new: dict[BlobId, tuple[OpenBlob, OpenBlob]] = {}
        """Each blob as it will be and as it was."""
        self._samples: dict[BlobId, MinhashSample] = {}
        """Of those that become bases or members: what they are found by changes with that."""
        self.done = Rebased()

    def add(self, unit: RebaseUnit) -> None:
        """Code all blobs of a unit, or none of it."""
        count = len(self._new)
        try:
            self._add(unit)
        except (_GivenUp, Damaged) as error:
            log.info("left as they are, blob %d and those planned with it: %s", unit.steps[0].blob_id, error)
            self.done.given_up += 1
            for step in unit.steps:
                self._new.pop(step.blob_id, None)
            self.writer.rewind(count)
            return
        self.done.tensors += len(unit.steps)
        for step in unit.steps:
            new, old = self._new[step.blob_id]
            self.done.moved_nbytes += old.blob.nbytes
            self.done.saved_nbytes += old.blob.stored_nbytes - new.blob.stored_nbytes
            self.done.packs.add(old.blob.pack)

    def _add(self, unit: RebaseUnit) -> None:
        excess_nbytes = 0
        for step in unit.steps:
            old = self._store.open_blob(step.blob_id)
            reference = step.choice.base
            base = None if reference is None else (self._base(reference.blob_id), reference.view)
            self._check_current(step, old)
            new = self._encode(old, base)
            self._new[old.blob.id] = new, old
            excess_nbytes += new.blob.stored_nbytes - step.predicted_nbytes
            if excess_nbytes >= unit.gain_nbytes:
                raise _GivenUp("rebased they take more than was predicted")

    def _base(self, blob_id: BlobId) -> OpenBlob:
        """Return a base as it will be."""
        if blob_id in self._new:
            return self._new[blob_id][0]
        return self._store.open_blob(blob_id)

    def _check_current(self, step: RebaseStep, old: OpenBlob) -> None:
        """Raise _GivenUp where a plan has been overtaken by what others did since."""
        reference = step.choice.base
        if old.blob.nbytes != step.nbytes or old.blob.base == reference or step.blob_id in self._new:
            raise _GivenUp("they are not what was planned for any more")
        if reference is None:
            return
        if self._base(reference.blob_id).base is not None:
            raise _GivenUp("what was to be their base has a base itself by now")
        if any(blob_id not in self._new for blob_id in self._store.catalog.used_members_of(step.blob_id)):
            raise _GivenUp("other tensors are coded against one of them by now")

    def _encode(self, old: OpenBlob, base: tuple[OpenBlob, View] | None) -> OpenBlob:
        frames, blob = self._store.frames, old.blob
        return self._encoder.encode(
            BlobInWork(
                blob.id,
                blob.fingerprint,
                blob.dtype,
                blob.shape,
                blob.nbytes,
                lambda index, nbytes: frames.frame(old, index),
                base,
                self._pace.passed,
            )
        )

    def finish(self) -> None:
        """Put the pack on the disk, compare what it holds with what was stored before, and commit it."""
        if self.writer.blobs:
            for new, old in self._new.values():
                if (new.blob.base is None) != (old.blob.base is None):
                    sample = read_sample(self._store, old)
                    if sample is not None:
                        self._samples[new.blob.id] = sample
            self._pack.publish(self._verify_all, self._write)

    def _write(self, txn: Transaction) -> None:
        for blob_id, sample in self._samples.items():
            blob = self._new[blob_id][0].blob
            put_sample(txn, blob, sample, is_member=blob.base is not None)
        txn.attribute(sorted({use.inode_id for use in txn.catalog.first_uses(sorted(self._new)).values()}))

    def _verify_all(self, blobs: Sequence[PackedBlob]) -> None:
        for packed in blobs:
            self._verify(*self._new[packed.blob.id])

    def _verify(self, new: OpenBlob, old: OpenBlob) -> None:
        frames, blob = self._store.frames, new.blob

        def same(index: int) -> bool:
            decoded = frames.decode(new, index)
            return same_bytes(decoded, frames.frame(old, index))

        with in_order(self._executor, same, blob.frame_count, blob.nbytes) as compared:
            for index, good in enumerate(compared):
                if not good:
                    at = index * blob.step_nbytes
                    raise Damaged(f"blob {blob.id}", f"rebased it decodes to other bytes, at offset {at}")
                self._pace.passed(0)
