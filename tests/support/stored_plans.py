"""How the files of a store are kept, as text: what each extent shares or is coded against, and a digest of each pack.

The text holds no name that is drawn at random, so that it is the same for the same files on every machine.
`python -m tests.support.stored_plans STORE` prints it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, Blob, BlobId, Extent, Kind, PackName
from zipfs.store.store import Store, open_store


@dataclass(slots=True)
class _Names:
    """A name for every blob: the first file and offset at which it is found."""

    of: dict[BlobId, str] = field(default_factory=dict)

    def add(self, blob_id: BlobId, name: str) -> bool:
        """Name a blob; returns whether it had no name."""
        return self.of.setdefault(blob_id, name) == name

    def get(self, blob_id: BlobId) -> str:
        return self.of.get(blob_id, "a blob of no file")


def stored_plan(store: Store) -> str:
    """A line for each extent of each file, in order of their paths, then one for each pack, oldest blob first."""
    files = [
        (os.fsdecode(path), store.catalog.extents(inode))
        for path, inode in sorted(tree.walk(store.catalog, store.catalog.inode(ROOT)), key=lambda found: found[0])
        if inode.kind is Kind.FILE
    ]
    names = _Names()
    firsts = {
        (path, extent.offset)
        for path, extents in files
        for extent in extents
        if names.add(extent.blob_id, f"{path}@{extent.offset}")
    }
    lines = [
        _extent_line(store, names, path, extent, is_first=(path, extent.offset) in firsts)
        for path, extents in files
        for extent in extents
    ]
    return "\n".join([*lines, *_pack_lines(store, list(names.of))]) + "\n"


def _extent_line(store: Store, names: _Names, path: str, extent: Extent, *, is_first: bool) -> str:
    where = f"{path} {extent.offset}+{extent.nbytes}"
    if not is_first:
        return f"{where} shared {names.get(extent.blob_id)}+{extent.blob_offset}"
    blob = store.catalog.blob(extent.blob_id)
    part = "" if (extent.blob_offset, extent.nbytes) == (0, blob.nbytes) else f" of {blob.nbytes}"
    if blob.base is None:
        return f"{where}{part} standalone, stored {blob.stored_nbytes}"
    view = blob.base.view
    cast = "" if view.cast is None else f" {view.cast}"
    against = f"{names.get(blob.base.blob_id)} {view.offset}+{view.nbytes}{cast}"
    return f"{where}{part} against {against}, stored {blob.stored_nbytes}"


def _pack_lines(store: Store, blob_ids: list[BlobId]) -> Iterator[str]:
    bases = (blob.base.blob_id for blob in map(store.catalog.blob, blob_ids) if blob.base is not None)
    packs: dict[PackName, list[Blob]] = {}
    for blob_id in sorted({*blob_ids, *bases}):
        blob = store.catalog.blob(blob_id)
        packs.setdefault(blob.pack, []).append(blob)
    for number, (pack, blobs) in enumerate(packs.items()):
        content = (store.path / "packs" / f"{pack.hex()}.pack").read_bytes()
        digest = hashlib.sha256()
        for blob in sorted(blobs, key=lambda blob: blob.pack_offset):
            digest.update(content[blob.pack_offset : blob.pack_offset + blob.stored_nbytes])
        frames = sum(len(blob.frames) for blob in blobs)
        yield f"pack {number}: {len(blobs)} blobs, {frames} frames, {digest.hexdigest()}"


def main() -> None:
    with open_store(Path(sys.argv[1]), read_only=True) as store:
        sys.stdout.write(stored_plan(store))


if __name__ == "__main__":
    main()
