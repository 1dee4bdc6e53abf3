"""The rebuild of a catalog from packs and manifest log, for a store whose catalog is lost or damaged."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from zipfs.errors import Damaged, StoreBusy
from zipfs.store.catalog.creation import create_catalog
from zipfs.store.catalog.log_record import Record
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog, Position
from zipfs.store.catalog.transaction import filling
from zipfs.store.catalog.writes import Transaction
from zipfs.store.directory import CATALOG, admit
from zipfs.store.disk.files import make_directory, open_file, replace_file, sync_directory
from zipfs.store.disk.locks import FileLock
from zipfs.store.disk.progress import Report, report_nothing
from zipfs.store.marker import read_marker
from zipfs.store.namespace import tree
from zipfs.store.objects.values import Blob, InodeId, PackName
from zipfs.store.packs.backend import PackBackend
from zipfs.store.packs.local import LocalPacks


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found. `lost` names what could not be brought back, and why."""

    packs: int = 0
    blobs: int = 0
    files: int = 0
    lost: list[str] = field(default_factory=list)


def rebuild(path: Path, report: Report = report_nothing, packs: PackBackend | None = None) -> Rebuilt:
    """Make the catalog of the store at `path` anew from its packs and manifests. Nobody else may have the store open.

    The old catalog is replaced when the new one is complete. Sketches are not in it; `backfill_sketches` adds
    them. Raises NotAStore, NotAllowed, StoreBusy, Damaged.
    """
    store_id = read_marker(path)
    admit(path, read_only=False)
    use = FileLock(path / "locks" / "use")
    if not use.try_acquire():
        raise StoreBusy(path, "a catalog can be rebuilt only while nothing else has the store open; unmount it first")
    try:
        manifests = ManifestLog(path / "manifests", store_id)
        rebuilt = Rebuilt()
        segment, records, end = _best_segment(manifests, rebuilt)
        fresh = path / f"{CATALOG}.new"
        create_catalog(fresh, store_id, segment)
        try:
            _fill(fresh, packs or LocalPacks(path / "packs"), segment, records, end, rebuilt, report)
        except BaseException:
            _unlink_database(fresh)
            raise
        _swap(path, fresh)
        _set_aside(path, manifests, segment, end, rebuilt)
        manifests.close()
        return rebuilt
    finally:
        use.release()


def _fill(
    fresh: Path,
    packs: PackBackend,
    segment: int,
    records: list[Record],
    end: int,
    rebuilt: Rebuilt,
    report: Report,
) -> None:
    """Write all rows of a new catalog."""
    with closing(Catalog(fresh)) as catalog:
        with filling(catalog) as txn:
            _add_packs(txn, packs, _listed(records), rebuilt, report)
            for done, entry in enumerate(records):
                entry.changes.packs.clear()  # what is on disk counts, and is there already
                txn.apply(entry.changes, packs)
                report("replaying manifests", done + 1, len(records))
            for inode_id in txn.drop_unreadable():  # reading such a file then ends in an error
                rebuilt.lost.append(f"content of inode {inode_id}: {_path(catalog, inode_id)}")
            txn.set_position(Position(segment, end, records[-1].seq))
        rebuilt.files = catalog.file_count()


def _set_aside(path: Path, manifests: ManifestLog, segment: int, end: int, rebuilt: Rebuilt) -> None:
    """Move what follows the last good record out of the log, where it could be taken for a record later.

    Raw content that only those records knew is moved with it.
    """
    with open(open_file(manifests.path_of(segment)), "rb") as log:
        log.seek(end)
        rest = log.read()
    if not rest:
        return
    aside = path / "lost+found"
    make_directory(aside)
    with open(replace_file(aside / f"{segment:020d}-from-{end}"), "wb") as file:
        file.write(rest)
    manifests.truncate(segment, end)
    with closing(Catalog(path / CATALOG, read_only=True)) as catalog:
        known = {str(number) for number in catalog.spooled()}
    for spooled in (path / "spool").iterdir():
        if spooled.name not in known:
            spooled.rename(aside / f"spool-{spooled.name}")
            rebuilt.lost.append(f"the name of a file whose content is now {aside / f'spool-{spooled.name}'}")


def _best_segment(manifests: ManifestLog, rebuilt: Rebuilt) -> tuple[int, list[Record], int]:
    """Return the segment that goes furthest, its records and its end. Each begins with a snapshot, so one suffices."""
    best: tuple[int, list[Record], int] | None = None
    for segment in manifests.segments():
        records: list[Record] = []
        try:
            records.extend(manifests.read(segment, 0))
        except Damaged as error:
            rebuilt.lost.append(f"changes to the tree after a damaged record: {error}")
        if records and (best is None or records[-1].seq >= best[1][-1].seq):
            best = (segment, records, records[-1].end)
    if best is None:
        raise Damaged(manifests.directory, "no segment of the manifest log can be read, so the tree cannot be rebuilt")
    return best


def _listed(records: Iterable[Record]) -> dict[PackName, int]:
    """Return the packs that the log says are there, and their places in the order in which they were added."""
    listed: dict[PackName, bool] = {}
    for entry in records:
        listed |= entry.changes.packs
    return {name: place for place, (name, added) in enumerate(listed.items()) if added}


def _add_packs(
    txn: Transaction, packs: PackBackend, listed: dict[PackName, int], rebuilt: Rebuilt, report: Report
) -> None:
    """Add the packs that are there. Of those in the log each says how its blobs are stored from then on.

    A pack that was written and never committed only adds blobs that no other pack has. After a power cut its ids may
    have been given again: it is left out then.
    """
    names = sorted(packs.names(), key=lambda name: (listed.get(name, len(listed)), name))
    for done, name in enumerate(names):
        file = packs.open(name)
        try:
            blobs = [packed.blob for packed in file.index()]
        except Damaged as error:
            rebuilt.lost.append(str(error))
            continue
        if name not in listed:
            if any(_is_taken(txn.catalog, blob) for blob in blobs):
                continue
            blobs = [blob for blob in blobs if not txn.catalog.has_blob(blob.id)]
        txn.add_pack(name, file.nbytes, blobs)
        rebuilt.packs += 1
        rebuilt.blobs += len(blobs)
        report("reading packs", done + 1, len(names))


def _is_taken(catalog: Catalog, blob: Blob) -> bool:
    return catalog.blob_identity(blob.id) not in (None, (blob.fingerprint, blob.nbytes))


def _path(catalog: Catalog, inode_id: InodeId) -> str:
    return os.fsdecode(tree.served_path(catalog, inode_id))


def _swap(path: Path, fresh: Path) -> None:
    """Put the new catalog in the place of the old one. The old write-ahead log must not outlive its database."""
    current = path / CATALOG
    for suffix in ("-wal", "-shm"):
        current.with_name(current.name + suffix).unlink(missing_ok=True)
    os.replace(fresh, current)
    _unlink_database(fresh)
    sync_directory(path)


def _unlink_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
