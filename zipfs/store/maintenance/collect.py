"""Collection: the deletion of packs that nothing needs, the rewriting of sparse packs, the merging of small ones.

A blob is needed by the extents of a file, and as the base of a blob that is needed. Everything is done under the pack
lock. New packs are published (`store/publish.py`) before old ones are deleted, so a kill at any instant costs space at
most, which the next collection frees. Readers hold the packs that they read from open and notice nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from zipfs.errors import NoSpace, PackDamaged
from zipfs.store.catalog.transaction import compact
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.disk.files import full_disk_told
from zipfs.store.disk.progress import Report, report_nothing
from zipfs.store.objects.values import BlobId, PackName
from zipfs.store.packs.file import verify_stored
from zipfs.store.packs.writer import PackWriter
from zipfs.store.publish import NewPack
from zipfs.store.store import Store

log = logging.getLogger(__name__)


SPARSE = 0.7
"""Packs with a smaller live part are rewritten: copying 0.7 to free 0.3 is about where it stops to pay."""
SHED = 0.98
"""The limit for packs with old forms of blobs that were rebased: these must not eat up what that has saved."""
_REWRITTEN_PACK_NBYTES = 1 << 30
_INDEX_NBYTES = 1 << 16
"""About how much of a pack its index takes."""


_SMALL_NBYTES = 16 << 20
"""Larger packs are never merged."""
_SMALLEST_NBYTES = 1 << 15
_TIER = 8
"""Number of packs of about one size that are merged into one, which is about that many times as large. So a byte is
copied a few times until its pack is too large to be merged."""
_MERGED_AT_ONCE = 64
_MERGED_NBYTES = 128 << 20
"""Length of one merged pack, at most: some seconds of work, for which others wait."""
_MERGED_BLOBS = 1 << 15
"""Blobs of one merged pack, at most: whoever opens a pack reads the list of them all."""


@dataclass(slots=True)
class Collected:
    """What a collection did. `damaged` names packs that could not be rewritten because of what they hold."""

    packs_deleted: int = 0
    packs_rewritten: int = 0
    packs_merged: int = 0
    blobs_dropped: int = 0
    freed_nbytes: int = 0
    damaged: tuple[str, ...] = ()


def collect(store: Store, report: Report = report_nothing, *, sparse: float = SPARSE) -> Collected:
    """Free what nothing needs, and merge small packs; the caller holds the pack lock.

    Packs with a live part below `sparse` are rewritten. Raises CatalogDamaged before anything is deleted, and Stopped
    between two steps, each of which leaves the store whole.
    """
    faults.point("gc.begin")
    collected = Collected()
    before = _packs_nbytes(store)
    _begin(store)
    _check_catalog(store, report)
    live = store.catalog.live_blob_ids()
    collected.blobs_dropped = sum(blob_id not in live for blob_id in store.catalog.blob_ids())
    _drop_dead_packs(store, live, collected)
    with full_disk_told(store.path):
        _rewrite_sparse(store, live, sparse, collected, report)
    _merge_small(store, live, collected, report)
    _delete_unlisted(store, collected)
    _attribute(store)
    compact(store.catalog, store.manifests, store.packs)
    collected.freed_nbytes = before - _packs_nbytes(store)
    return collected


def merge_small_packs(store: Store, report: Report = report_nothing) -> Collected:
    """Merge small packs where there are enough of a size, as a collection does; the caller holds the pack lock.

    All that the catalog knows to be in them is kept, needed or not. Costs next to nothing where there are not enough.
    Raises Stopped, NoSpace, OSError.
    """
    collected = Collected()
    if next(_to_merge(store), None) is not None:
        _begin(store)
        _merge_small(store, None, collected, report)
    return collected


def _begin(store: Store) -> None:
    store.packs.clear_unfinished()
    with store.transaction():
        pass  # applies what a killed process has logged


def _packs_nbytes(store: Store) -> int:
    return sum(store.packs.nbytes(name) for name in store.packs.names())


def _check_catalog(store: Store, report: Report) -> None:
    """Read all rows, so that nothing is deleted because of a row that does not match its checksum."""
    with store.catalog.snapshot():
        inode_ids = store.catalog.inode_ids()
        for done, inode_id in enumerate(inode_ids):
            store.stop.check()
            store.catalog.extents(store.catalog.inode(inode_id))
            report("checking files", done + 1, len(inode_ids))


def _drop_dead_packs(store: Store, live: set[BlobId], collected: Collected) -> None:
    dead = [name for name, blobs in store.catalog.blobs_by_pack().items() if not any(blob in live for blob, _ in blobs)]
    if dead:
        with store.transaction(durable=True, fault="gc") as txn:
            _drop(txn, dead)
        _delete(store, dead, collected)


def freeable_nbytes(store: Store) -> int:
    """Return about what a collection would free now, by its own rules. Raises CatalogDamaged."""
    live, sizes = store.catalog.live_blob_ids(), store.catalog.packs()
    return sum(sizes[name] - live_nbytes for name, live_nbytes in _sparse_packs(store, live, SPARSE))


def _sparse_packs(store: Store, live: set[BlobId], least_live: float) -> Iterator[tuple[PackName, int]]:
    """Yield packs of which less than `least_live` is needed, and how many bytes of each are."""
    sizes = store.catalog.packs()
    for name, blobs in store.catalog.blobs_by_pack().items():
        live_nbytes = sum(nbytes for blob, nbytes in blobs if blob in live)
        all_nbytes = sum(nbytes for _, nbytes in blobs)
        if live_nbytes < least_live * max(all_nbytes, sizes[name] - _INDEX_NBYTES) or not live_nbytes:
            yield name, live_nbytes


def _rewrite_sparse(store: Store, live: set[BlobId], least_live: float, collected: Collected, report: Report) -> None:
    sparse = list(_sparse_packs(store, live, least_live))
    passed = _Passed(store, report, "rewriting packs", sum(nbytes for _, nbytes in sparse))
    group: list[PackName] = []
    group_nbytes = 0
    for name, nbytes in sparse:
        if group and group_nbytes + nbytes > _REWRITTEN_PACK_NBYTES:
            collected.packs_rewritten += _rewrite(store, group, live, collected, passed)
            group, group_nbytes = [], 0
        group.append(name)
        group_nbytes += nbytes
    if group:
        collected.packs_rewritten += _rewrite(store, group, live, collected, passed)


class _Passed:
    """Counts copied bytes and reports them. Raises Stopped when that is asked for."""

    def __init__(self, store: Store, report: Report, what: str, total: int) -> None:
        self._store, self._report, self._what, self._total = store, report, what, total
        self._done = 0

    def __call__(self, nbytes: int) -> None:
        self._store.stop.check()
        self._done += nbytes
        self._report(self._what, min(self._done, self._total), self._total)


def _to_merge(store: Store) -> Iterator[list[PackName]]:
    """Yield groups of small packs of about one size, the smallest sizes first."""
    sizes = store.catalog.packs()
    blobs = store.catalog.blob_counts()
    tiers: dict[int, list[PackName]] = defaultdict(list)
    for name, nbytes in sizes.items():
        if nbytes < _SMALL_NBYTES and 0 < blobs.get(name, 0) <= _MERGED_BLOBS // _TIER:
            tiers[_tier(nbytes)].append(name)
    for _, names in sorted(tiers.items()):
        group: list[PackName] = []
        for name in names:
            group.append(name)
            full = sum(sizes[one] for one in group) >= _MERGED_NBYTES or len(group) == _MERGED_AT_ONCE
            if full or sum(blobs[one] for one in group) >= _MERGED_BLOBS:
                yield group
                group = []
        if len(group) >= _TIER:
            yield group


def _tier(nbytes: int) -> int:
    tier, below = 0, _SMALLEST_NBYTES
    while nbytes >= below:
        tier, below = tier + 1, below * _TIER
    return tier


def _merge_small(store: Store, live: set[BlobId] | None, collected: Collected, report: Report) -> None:
    """Merge until there are not enough packs of any size. Without `live` every blob counts."""
    while names := next(_to_merge(store), None):
        sizes, by_pack = store.catalog.packs(), store.catalog.blobs_by_pack()
        here = {blob for name in names for blob, _ in by_pack[name]}
        passed = _Passed(store, report, "merging small packs", sum(sizes[name] for name in names))
        try:
            with full_disk_told(store.path):
                merged = _rewrite(store, names, here if live is None else here & live, collected, passed)
        except NoSpace as error:
            log.info("small packs are merged when there is space: %s", error)
            return
        collected.packs_merged += merged
        if merged < len(names):
            return  # one of them is damaged and would be tried again and again


def _rewrite(
    store: Store, names: Sequence[PackName], live: set[BlobId], collected: Collected, passed: Callable[[int], None]
) -> int:
    """Copy what is live of some packs into a new one, delete them, and return how many those were."""
    rewritten: list[PackName] = []
    with NewPack(store, "gc") as pack:
        for name in names:
            try:
                _copy(store, pack.writer, name, live, passed)
            except PackDamaged as error:
                collected.damaged += (str(error),)
            else:
                rewritten.append(name)
        if rewritten:
            pack.publish(
                lambda blobs: verify_stored(pack.writer.file, blobs, store.stop), lambda txn: _drop(txn, rewritten)
            )
    if rewritten:
        _delete(store, rewritten, collected)
    return len(rewritten)


def shed(store: Store, names: Iterable[PackName]) -> None:
    """Rewrite packs of which a good part are forms that blobs have no longer; the caller holds the pack lock.

    Whatever the catalog says to be in them is kept, needed or not.
    """
    sizes, by_pack = store.catalog.packs(), store.catalog.blobs_by_pack()
    for name in names:
        if name in sizes:
            here = by_pack[name]
            if sum(nbytes for _, nbytes in here) < SHED * (sizes[name] - _INDEX_NBYTES):
                _rewrite(store, [name], {blob for blob, _ in here}, Collected(), lambda nbytes: store.stop.check())


def _copy(store: Store, writer: PackWriter, name: PackName, live: set[BlobId], passed: Callable[[int], None]) -> None:
    """Append the live blobs of a pack; all of them or none."""
    source = store.packs.open(name)
    start = len(writer.blobs)
    # A blob may be listed by several packs after a kill: only the copy that the catalog names counts.
    here = {blob for blob, _ in store.catalog.blobs_by_pack()[name]}
    try:
        for packed in source.index():
            if packed.blob.id in live and packed.blob.id in here:
                writer.copy_blob(packed, source, passed)
        if {packed.blob.id for packed in writer.blobs[start:]} != here & live:
            raise PackDamaged(source.where, 0, "its index does not list what the catalog knows to be in it")
    except PackDamaged:
        writer.rewind(start)
        raise


def _drop(txn: Transaction, names: Iterable[PackName]) -> None:
    for name in names:
        txn.drop_pack(name)


def _delete(store: Store, names: Sequence[PackName], collected: Collected) -> None:
    """Delete packs that have just been dropped from the catalog."""
    faults.point("gc.pack-dropped")
    for name in names:
        store.packs.delete(name)
        faults.point("gc.pack-unlinked")
    collected.packs_deleted += len(names)


def _delete_unlisted(store: Store, collected: Collected) -> None:
    """Delete packs that neither catalog nor log names: left by a kill before or after the commit of what made them."""
    with store.transaction() as txn:  # applies what is in the log
        listed = txn.catalog.packs()
    for name in list(store.packs.names()):
        if name not in listed:
            store.packs.delete(name)
            collected.packs_deleted += 1


def _attribute(store: Store) -> None:
    """Count the bytes of each blob for one of the files that still hold it."""
    with store.transaction() as txn:
        txn.drop_stale_index_keys()
        txn.attribute_all()
