"""Checking a store against itself: catalog, manifest log, packs and spool have to tell the same.

Finds and names; changes nothing. Without `read_data` it reads the catalog, the log and the packs' indexes; with it also
every frame, which it decodes and compares with its checksums. Others may change the store meanwhile: rows are compared
within one snapshot, and what is missing on the disk is looked up again before it is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from zipfs.errors import CatalogDamaged, Damaged, NotFound, PackDamaged
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.queries import Catalog
from zipfs.store.disk.progress import Report, report_nothing
from zipfs.store.namespace import tree
from zipfs.store.objects.base_view import check_view
from zipfs.store.objects.values import (
    INGEST_ROOT,
    ROOT,
    Blob,
    BlobId,
    Entry,
    Inode,
    InodeId,
    PackName,
    State,
    frame_count,
)
from zipfs.store.packs.file import PackFile, verify_stored
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong. `part` is "catalog", "manifests", "pack", "data" or "spool"."""

    part: str
    where: str
    message: str
    paths: tuple[str, ...] = ()
    """Files that cannot be read because of it."""
    harmless: bool = False
    """Left over by a kill; the next collection clears it away."""


def check(store: Store, *, read_data: bool = False, report: Report = report_nothing) -> Iterator[Problem]:
    """Every problem of a store, most basic first."""
    catalog_problems = list(_check_database(store.catalog))
    yield from catalog_problems
    if catalog_problems:
        return  # what else is read from it would only repeat the damage
    yield from _check_rows(store)
    yield from _check_packs(store, report)
    yield from _check_spool(store)
    if read_data:
        yield from _check_data(store, report)


def _check_database(catalog: Catalog) -> Iterator[Problem]:
    where = str(catalog.path)
    try:
        for message in catalog.integrity_errors():
            yield Problem("catalog", where, message)
        for table, row_id, parent in catalog.missing_references():
            yield Problem("catalog", where, f"row {row_id} of {table} refers to a row of {parent} that is missing")
    except CatalogDamaged as error:
        yield Problem("catalog", where, str(error))


def _check_rows(store: Store) -> list[Problem]:
    """The tree, and the manifest log that has to say the same."""
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
            if inode.state is State.STORED:
                _check_extents(catalog, inode, sizes)
            for entry in catalog.entries_of(inode_id):
                catalog.inode(entry.parent_id)
            if inode_id not in (ROOT, INGEST_ROOT):
                _check_reachable(catalog, inode_id)
        except (Damaged, NotFound, ValueError) as error:
            yield Problem("catalog", where, str(error), _paths(catalog, [inode_id]))
    for blob in _blobs(catalog):
        if isinstance(blob, Problem):
            yield blob
        elif blob.base is not None:
            try:
                base = catalog.blob(blob.base.blob_id)
                check_view(blob.id, blob.base.view, base.id, base.nbytes, base_has_base=base.base is not None)
            except CatalogDamaged as error:
                yield Problem("catalog", where, str(error), users_of_blob(catalog, blob.id))


def _blobs(catalog: Catalog) -> Iterator[Blob | Problem]:
    for blob_id in catalog.blob_ids():
        catalog.stop.check()
        try:
            yield catalog.blob(blob_id)
        except Damaged as error:
            yield Problem("catalog", str(catalog.path), str(error), users_of_blob(catalog, blob_id))


def _check_extents(catalog: Catalog, inode: Inode, sizes: dict[BlobId, int]) -> None:
    offset = 0
    for extent in catalog.extents(inode):
        if extent.offset != offset or extent.blob_offset + extent.nbytes > sizes.get(extent.blob_id, 0):
            raise CatalogDamaged(f"extents of inode {inode.id} do not tile it")
        offset += extent.nbytes
    if offset != inode.nbytes:
        raise CatalogDamaged(f"extents of inode {inode.id} cover {offset} of its {inode.nbytes} bytes")


def _check_reachable(catalog: Catalog, inode_id: InodeId) -> None:
    seen: set[InodeId] = set()
    while inode_id not in (ROOT, INGEST_ROOT):
        entries = catalog.entries_of(inode_id)
        if not entries or inode_id in seen:
            raise CatalogDamaged(f"inode {inode_id} cannot be reached from the top")
        seen.add(inode_id)
        inode_id = entries[0].parent_id


def _paths(catalog: Catalog, inode_ids: list[InodeId]) -> tuple[str, ...]:
    paths = []
    for inode_id in inode_ids:
        try:
            paths.append(os.fsdecode(tree.served_path(catalog, inode_id)))
        except (Damaged, NotFound, ValueError):
            paths.append(f"inode {inode_id}")
    return tuple(paths)


def users_of_blob(catalog: Catalog, blob_id: BlobId) -> tuple[str, ...]:
    """Paths of the files that need a blob, also as a base."""
    return _paths(catalog, catalog.users_of_blob(blob_id))


def _check_manifests(store: Store) -> Iterator[Problem]:
    """Replay the log in memory and compare."""
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


def _check_packs(store: Store, report: Report) -> Iterator[Problem]:
    with store.catalog.snapshot():
        listed = store.catalog.packs()
        by_pack: dict[PackName, list[Blob]] = {name: [] for name in listed}
        for blob in _blobs(store.catalog):
            if isinstance(blob, Blob):
                by_pack[blob.pack].append(blob)
    for done, (name, nbytes) in enumerate(listed.items()):
        where = store.packs.where(name)
        try:
            file = store.packs.open(name)
            if file.nbytes != nbytes:
                yield Problem("pack", where, f"has {file.nbytes} bytes instead of {nbytes}")
            yield from _compare_index(file, by_pack[name])
        except FileNotFoundError:
            if name not in store.catalog.packs():
                continue
            lost = {user for blob in by_pack[name] for user in users_of_blob(store.catalog, blob.id)}
            yield Problem("pack", where, "is missing", tuple(sorted(lost)))
        except Damaged as error:
            yield Problem("pack", where, str(error))
        report("checking packs", done + 1, len(listed))
    for name in store.packs.names():
        if name not in listed and name not in store.catalog.packs():
            where = store.packs.where(name)
            yield Problem("pack", where, "is not in the catalog; a collection deletes it", harmless=True)
    for where in store.packs.unfinished():
        yield Problem("pack", where, "was never finished; a collection deletes it", harmless=True)


def _compare_index(file: PackFile, blobs: list[Blob]) -> Iterator[Problem]:
    indexed = {packed.blob.id: packed.blob for packed in file.index()}
    for blob in blobs:
        other = indexed.get(blob.id)
        if other is None or not _same(blob, other):
            yield Problem("catalog", file.where, f"catalog and index differ about blob {blob.id}")


def _same(one: Blob, other: Blob) -> bool:
    return (one.nbytes, one.fingerprint, one.dtype, one.shape, one.base, one.pack_offset) == (
        other.nbytes,
        other.fingerprint,
        other.dtype,
        other.shape,
        other.base,
        other.pack_offset,
    ) and one.frames.tolist() == other.frames.tolist()


def _check_spool(store: Store) -> Iterator[Problem]:
    for inode in store.catalog.inodes_in(State.SEALED):
        path = store.spool_path(inode.id)
        paths = _paths(store.catalog, [inode.id])
        try:
            nbytes = path.stat().st_size
        except FileNotFoundError:
            if not store.catalog.is_sealed(inode.id):
                continue
            yield Problem("spool", str(path), "is missing, and its content was not compressed yet", paths)
            continue
        if nbytes != inode.nbytes:
            yield Problem("spool", str(path), f"has {nbytes} bytes instead of {inode.nbytes}", paths)
    known = store.catalog.spooled()
    for path in (store.path / "spool").iterdir():
        if not path.name.isdecimal() or int(path.name) not in known:
            yield Problem("spool", str(path), "belongs to no file; the next mount deletes it", harmless=True)


def _check_data(store: Store, report: Report) -> Iterator[Problem]:
    """Decode everything. Stored and decoded bytes are compared with the checksums of when they were written."""
    total = sum(store.catalog.packs().values())
    done = 0
    for name, nbytes in store.catalog.packs().items():
        yield from _check_stored_sums(store, name)
        for blob_id in store.catalog.blob_ids_in(name):
            problem = decode_problem(store, blob_id)
            if problem is not None and store.catalog.has_blob(blob_id):
                yield Problem("data", store.packs.where(name), problem, users_of_blob(store.catalog, blob_id))
        done += nbytes
        report("reading data", done, total)


def _check_stored_sums(store: Store, name: PackName) -> Iterator[Problem]:
    try:
        file = store.packs.open(name)
        packed = file.index()
    except (FileNotFoundError, Damaged):
        return  # told already
    for entry in packed:
        try:
            verify_stored(file, [entry], store.stop)
        except PackDamaged as error:
            yield Problem("data", file.where, str(error), users_of_blob(store.catalog, entry.blob.id))


def decode_problem(store: Store, blob_id: BlobId) -> str | None:
    """What keeps a blob from being decoded to the bytes of its fingerprint, if anything."""
    try:
        opened = store.open_blob(blob_id)
        fingerprint = xxhash.xxh3_128()
        for index in range(frame_count(opened.blob.nbytes)):
            store.stop.check()
            fingerprint.update(store.frames.decode(opened, index))
    except Damaged as error:
        return str(error)
    if fingerprint.digest() != opened.blob.fingerprint:
        return f"blob {blob_id} does not decode to the bytes of its fingerprint"
    return None
