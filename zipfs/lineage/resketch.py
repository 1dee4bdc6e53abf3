"""Sketches made anew from what is stored, for tensors that a rebuilt catalog knows without one. Used by one thread."""

from __future__ import annotations

from collections.abc import Callable

from zipfs.errors import Damaged
from zipfs.lineage.sketch import sketch
from zipfs.lineage.survey import LEAST_NBYTES
from zipfs.store.blobs import OpenBlob, open_blob
from zipfs.store.rows import BlobId
from zipfs.store.store import Store

_COMMIT_EVERY = 256


def make_sketches(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Sketch every tensor that has no sketch; returns how many. Damaged blobs are passed over."""
    rows = store.catalog.query(
        "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= ? AND id NOT IN (SELECT blob_id FROM sketches)",
        (LEAST_NBYTES,),
    )
    made: dict[BlobId, bytes] = {}
    for done, (blob_id,) in enumerate(rows):
        try:
            opened = open_blob(store.packs, store.catalog.blob(blob_id), store.catalog.blob)
            made[blob_id] = _sketch(store, opened)
        except (Damaged, FileNotFoundError):
            continue
        finally:
            report("sketching", done + 1, len(rows))
        if len(made) >= _COMMIT_EVERY:
            _put(store, made)
    _put(store, made)
    return len(rows)


def _sketch(store: Store, opened: OpenBlob) -> bytes:
    def read(offset: int, nbytes: int) -> bytes:
        return bytes(store.frames.range(opened, offset, nbytes))

    return sketch(read, opened.blob.nbytes, opened.blob.dtype)


def _put(store: Store, made: dict[BlobId, bytes]) -> None:
    with store.transaction() as txn:
        for blob_id, content in made.items():
            txn.put_sketch(blob_id, content)
    made.clear()
