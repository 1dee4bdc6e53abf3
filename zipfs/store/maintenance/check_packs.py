"""Checks of packs against the catalog, and of the data in them against its checksums."""

from __future__ import annotations

from collections.abc import Iterator

import xxhash

from zipfs.errors import Damaged, PackDamaged
from zipfs.store.disk.progress import Report
from zipfs.store.maintenance.problem import Problem, blobs_or_problems, users_of_blob
from zipfs.store.objects.values import Blob, BlobId, PackName
from zipfs.store.packs.file import PackFile, verify_stored
from zipfs.store.store import Store


def check_packs(store: Store, report: Report) -> Iterator[Problem]:
    """Compare packs and their indexes with the catalog, and look for packs that it does not list."""
    with store.catalog.snapshot():
        listed = store.catalog.packs()
        by_pack: dict[PackName, list[Blob]] = {name: [] for name in listed}
        for blob in blobs_or_problems(store.catalog):
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


def check_data(store: Store, report: Report) -> Iterator[Problem]:
    """Read and decode all blobs, and compare stored and decoded bytes with the checksums of when they were written."""
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
    """Return what keeps a blob from being decoded to the bytes of its fingerprint, or None."""
    try:
        opened = store.open_blob(blob_id)
        fingerprint = xxhash.xxh3_128()
        for index in range(opened.blob.frame_count):
            store.stop.check()
            fingerprint.update(store.frames.decode(opened, index))
    except Damaged as error:
        return str(error)
    if fingerprint.digest() != opened.blob.fingerprint:
        return f"blob {blob_id} does not decode to the bytes of its fingerprint"
    return None
