"""Sketches made anew from what is stored, for tensors that a rebuilt catalog knows without one. Used by one thread."""

from __future__ import annotations

from collections.abc import Callable

from zipfs.errors import Damaged
from zipfs.lineage.signature import signature
from zipfs.lineage.sketch import sketch
from zipfs.lineage.survey import LEAST_NBYTES
from zipfs.store.blobs import OpenBlob
from zipfs.store.rows import BlobId
from zipfs.store.store import Store

_COMMIT_EVERY = 256


def make_sketches(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Sketch every tensor that has no sketch; returns how many. Damaged blobs are passed over."""
    rows = store.catalog.query(
        "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= ? AND id NOT IN (SELECT blob_id FROM signatures)",
        (LEAST_NBYTES,),
    )
    made: dict[BlobId, tuple[bytes, bytes]] = {}
    for done, (blob_id,) in enumerate(rows):
        try:
            made[blob_id] = _sketch(store, store.open_blob(blob_id))
        except Damaged:
            continue
        finally:
            report("sketching", done + 1, len(rows))
        if len(made) >= _COMMIT_EVERY:
            _put(store, made)
    _put(store, made)
    return len(rows)


def _sketch(store: Store, opened: OpenBlob) -> tuple[bytes, bytes]:
    """Sketch and signature."""

    def read(offset: int, nbytes: int) -> bytes:
        return bytes(store.frames.range(opened, offset, nbytes))

    made = sketch(read, opened.blob.nbytes, opened.blob.dtype)
    return made, signature(made, opened.blob.dtype)


def _put(store: Store, made: dict[BlobId, tuple[bytes, bytes]]) -> None:
    with store.transaction() as txn:
        for blob_id, content in made.items():
            txn.put_sketch(blob_id, *content)
    made.clear()
