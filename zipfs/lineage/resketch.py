"""Sketches and landmarks made anew from what is stored, for blobs of a rebuilt catalog. Used by one thread."""

from __future__ import annotations

from collections.abc import Callable

from zipfs.codec import FRAME_NBYTES
from zipfs.errors import Damaged
from zipfs.lineage.landmarks import LEAST_ITEMS, Landmarks, Scan
from zipfs.lineage.signature import signature
from zipfs.lineage.sketch import sketch
from zipfs.lineage.survey import LEAST_MEMBER_NBYTES, LEAST_NBYTES
from zipfs.store.blobs import OpenBlob
from zipfs.store.rows import BlobId, frame_count
from zipfs.store.store import Store

_COMMIT_EVERY = 256


def make_sketches(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Sketch every tensor that has no sketch; returns how many. Damaged blobs are passed over."""
    rows = store.catalog.query(
        "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= iif(base_id IS NULL, ?, ?)"
        " AND id NOT IN (SELECT blob_id FROM signatures)",
        (LEAST_NBYTES, LEAST_MEMBER_NBYTES),
    )
    made: dict[BlobId, tuple[bytes, bytes]] = {}
    for done, (blob_id,) in enumerate(rows):
        try:
            made[blob_id] = _sketch(store, store.open_blob(blob_id))
        except Damaged:
            continue
        finally:
            report("sketching", done + 1, len(rows))
        if len(made) == _COMMIT_EVERY:
            _put(store, made)
    _put(store, made)
    return len(rows)


def make_landmarks(store: Store, report: Callable[[str, int, int], None]) -> int:
    """Find the landmarks of every tensor that has none; returns how many were looked at. Damaged ones are passed over.

    Reads and decodes them from end to end.
    """
    rows = store.catalog.query(
        "SELECT id FROM blobs WHERE dtype <> '' AND nbytes >= ? AND id NOT IN (SELECT blob_id FROM landmarks)",
        (LEAST_ITEMS,),
    )
    for start in range(0, len(rows), _COMMIT_EVERY):
        found: list[tuple[BlobId, Landmarks]] = []
        for done, (blob_id,) in enumerate(rows[start : start + _COMMIT_EVERY]):
            try:
                landmarks = _landmarks(store, store.open_blob(blob_id))
            except Damaged:
                landmarks = None
            if landmarks is not None:
                found.append((blob_id, landmarks))
            report("looking for landmarks", start + done + 1, len(rows))
        with store.transaction() as txn:
            for blob_id, landmarks in found:
                is_member = store.catalog.blob(blob_id).base is not None
                txn.put_landmarks(blob_id, landmarks.kept(is_member=is_member).encode())
                if not is_member:
                    txn.put_anchors(blob_id, landmarks.anchors)
    return len(rows)


def _landmarks(store: Store, opened: OpenBlob) -> Landmarks | None:
    blob = opened.blob
    scan = Scan(blob.nbytes, blob.dtype, blob.shape)
    for index in range(frame_count(blob.nbytes)):
        scan.feed(index * FRAME_NBYTES, store.frames.decode(opened, index))
    return scan.landmarks()


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
