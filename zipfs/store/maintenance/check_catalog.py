"""Checks of the catalog against itself and against the manifest log, which has to say the same."""

from __future__ import annotations

from collections.abc import Iterator

from zipfs.errors import CatalogDamaged, Damaged, NotFound
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.queries import Catalog
from zipfs.store.maintenance.problem import Problem, blobs_or_problems, paths_of, users_of_blob
from zipfs.store.objects.base_view import check_view
from zipfs.store.objects.values import INGEST_ROOT, ROOT, BlobId, Entry, Inode, InodeId, State
from zipfs.store.store import Store


def check_database(catalog: Catalog) -> Iterator[Problem]:
    """Have SQLite check its file, and look for references to rows that are missing."""
    where = str(catalog.path)
    try:
        for message in catalog.integrity_errors():
            yield Problem("catalog", where, message)
        for table, row_id, parent in catalog.missing_references():
            yield Problem("catalog", where, f"row {row_id} of {table} refers to a row of {parent} that is missing")
    except CatalogDamaged as error:
        yield Problem("catalog", where, str(error))


def check_rows(store: Store) -> list[Problem]:
    """Check the tree, and compare it with the manifest log, at one moment."""
    while True:
        with store.catalog.snapshot():
            segment = store.catalog.position().segment
            problems = [*_check_tree(store.catalog), *_check_manifests(store)]
        if not problems or store.catalog.position().segment == segment:
            return problems
        # A collection has replaced the log while it was read.


def _check_tree(catalog: Catalog) -> Iterator[Problem]:
    where = str(catalog.path)
    sizes = catalog.blob_sizes()
    for inode_id in catalog.inode_ids():
        catalog.stop.check()
        try:
            inode = catalog.inode(inode_id)
            _check_extents(catalog, inode, sizes)
            for entry in catalog.entries_of(inode_id):
                catalog.inode(entry.parent_id)
            if inode_id not in (ROOT, INGEST_ROOT):
                _check_reachable(catalog, inode_id)
        except (Damaged, NotFound, ValueError) as error:
            yield Problem("catalog", where, str(error), paths_of(catalog, [inode_id]))
    for blob in blobs_or_problems(catalog):
        if isinstance(blob, Problem):
            yield blob
        elif blob.base is not None:
            try:
                base = catalog.blob(blob.base.blob_id)
                check_view(blob.id, blob.base.view, base.id, base.nbytes, base_has_base=base.base is not None)
            except CatalogDamaged as error:
                yield Problem("catalog", where, str(error), users_of_blob(catalog, blob.id))


def _check_extents(catalog: Catalog, inode: Inode, sizes: dict[BlobId, int]) -> None:
    offset = 0
    for extent in catalog.extents(inode):
        if extent.offset != offset or extent.blob_offset + extent.nbytes > sizes.get(extent.blob_id, 0):
            raise CatalogDamaged(f"extents of inode {inode.id} do not tile it")
        offset += extent.nbytes
    if inode.state is State.STORED and offset != inode.nbytes:
        raise CatalogDamaged(f"extents of inode {inode.id} cover {offset} of its {inode.nbytes} bytes")


def _check_reachable(catalog: Catalog, inode_id: InodeId) -> None:
    seen: set[InodeId] = set()
    while inode_id not in (ROOT, INGEST_ROOT):
        entries = catalog.entries_of(inode_id)
        if not entries or inode_id in seen:
            raise CatalogDamaged(f"inode {inode_id} cannot be reached from the top")
        seen.add(inode_id)
        inode_id = entries[0].parent_id


def _check_manifests(store: Store) -> Iterator[Problem]:
    """Replay the log in memory, and compare the catalog with it."""
    position = store.catalog.position()
    where = str(store.manifests.path_of(position.segment))
    logged = Changes()
    try:
        seq = -1
        for entry in store.manifests.read(position.segment, 0, position.offset):
            if entry.seq < seq:
                yield Problem("manifests", where, f"record {entry.seq} comes after record {seq}")
            seq = entry.seq
            store.stop.check()
            _replay(logged, entry.changes)
        if seq != position.seq:
            yield Problem("manifests", where, f"ends with record {seq}, but the catalog has come to {position.seq}")
        if store.manifests.nbytes(position.segment) < position.offset:
            yield Problem("manifests", where, "is shorter than the catalog remembers")
            return
    except (Damaged, FileNotFoundError) as error:
        yield Problem("manifests", where, str(error))
        return
    yield from _compare(store.catalog, logged, where)


def _replay(state: Changes, changes: Changes) -> None:
    for inode_id, inode in changes.inodes.items():
        if inode is None:
            state.inodes.pop(inode_id, None)
            state.extents.pop(inode_id, None)
        else:
            state.inodes[inode_id] = inode
    for key, entry in changes.entries.items():
        if entry is None:
            state.entries.pop(key, None)
        else:
            state.entries[key] = entry
    state.extents.update({key: value for key, value in changes.extents.items() if key in state.inodes})


def _compare(catalog: Catalog, logged: Changes, where: str) -> Iterator[Problem]:
    found: dict[InodeId, Inode] = {}
    entries: dict[tuple[InodeId, bytes], Entry] = {}
    for inode_id in catalog.inode_ids():
        catalog.stop.check()
        try:
            found[inode_id] = catalog.inode(inode_id)
            for entry in catalog.entries_of(inode_id):
                entries[entry.parent_id, entry.name] = entry
            if catalog.extents(found[inode_id]) != logged.extents.get(inode_id, ()):
                yield Problem("catalog", where, f"extents of inode {inode_id} differ between catalog and manifest log")
        except Damaged:
            continue  # told already
    differing = [i for i in {*found, *logged.inodes} if found.get(i) != logged.inodes.get(i)]
    for inode_id in sorted(differing):
        yield Problem("catalog", where, f"inode {inode_id} differs between catalog and manifest log")
    for key in sorted(key for key in {*entries, *logged.entries} if entries.get(key) != logged.entries.get(key)):
        yield Problem("catalog", where, f"entry {key[1]!r} of inode {key[0]} differs between catalog and manifest log")
