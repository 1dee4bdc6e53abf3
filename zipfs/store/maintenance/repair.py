"""Repair of a store whose catalog is intact: of packs with a damaged index, and of a damaged manifest log."""

from __future__ import annotations

from collections.abc import Iterable

from zipfs.store.catalog.transaction import compact
from zipfs.store.disk.progress import Report, report_nothing
from zipfs.store.frames.cache import FrameCache
from zipfs.store.maintenance.check_packs import decode_problem
from zipfs.store.maintenance.problem import Problem
from zipfs.store.objects.values import PackName
from zipfs.store.packs.file import verify_stored
from zipfs.store.publish import NewPack
from zipfs.store.store import Store


def repair(store: Store, problems: Iterable[Problem], report: Report = report_nothing) -> list[str]:
    """Repair what the catalog suffices for, and return what was done; the caller holds the pack lock.

    A pack with a damaged index is written anew as the catalog lists it, a damaged manifest log as a snapshot.
    """
    found = list(problems)
    broken = {problem.where for problem in found if problem.part == "pack" and not problem.harmless}
    done = [
        _rewrite_from_catalog(store, name)
        for name in store.catalog.packs()
        if store.packs.where(name) in broken and store.packs.exists(name)
    ]
    if any(problem.part == "manifests" for problem in found):
        compact(store.catalog, store.manifests, store.packs)
        done.append("manifest log: written anew from the catalog")
    return done


def _rewrite_from_catalog(store: Store, name: PackName) -> str:
    """Copy the frames of a pack, as the catalog lists them, into a new one with a good index."""
    where = store.packs.where(name)
    blob_ids = store.catalog.blob_ids_in(name)
    store.frames = FrameCache(64 << 20)  # nothing that was decoded before may vouch for what is on disk
    source = store.packs.open(name)
    with NewPack(store, "repair") as pack:
        writer = pack.writer
        for blob_id in blob_ids:
            problem = decode_problem(store, blob_id)
            if problem is not None:
                return f"{where}: left as it is, because it also holds damaged data: {problem}"
            blob = store.catalog.blob(blob_id)
            writer.begin_blob()
            at = blob.pack_offset
            for nbytes in blob.frames.tolist():
                writer.append_frame(source.read(at, nbytes))
                at += nbytes
            writer.end_blob(blob.id, blob.nbytes, blob.fingerprint, blob.dtype, blob.shape, blob.base)
        published = pack.publish(
            lambda blobs: verify_stored(writer.file, blobs, store.stop), lambda txn: txn.drop_pack(name)
        )
    store.packs.delete(name)
    return f"{where}: written anew as {store.packs.where(published.name)}"
