"""Owns blobs that are open: where their frames and those of their bases are, in packs that stay readable.

Any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zipfs.errors import CatalogDamaged
from zipfs.store.catalog.blob_queries import BlobRows
from zipfs.store.objects.base_view import check_view
from zipfs.store.objects.values import Blob, BlobId, Extent, PackName
from zipfs.store.packs.file import PackFile
from zipfs.store.packs.ranges import Stored


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob, its base, and the packs that hold them, open: readable whatever is deleted or moved meanwhile."""

    blob: Blob
    pack: PackFile
    base: OpenBlob | None
    ends: npt.NDArray[np.int64] = field(repr=False)
    """Where in the pack each frame ends."""

    def stored(self, number: int) -> Stored:
        """Return where frame `number` is."""
        end, nbytes = int(self.ends[number]), int(self.blob.frames[number])
        return Stored(self.pack, end - nbytes, nbytes)


def opened(blob: Blob, pack: PackFile, base: OpenBlob | None) -> OpenBlob:
    """Return a blob in a pack that is open already."""
    return OpenBlob(blob, pack, base, blob.pack_offset + np.cumsum(blob.frames, dtype=np.int64))


def open_blob(open_pack: Callable[[PackName], PackFile], blob: Blob, look_up: Callable[[BlobId], Blob]) -> OpenBlob:
    """Open a blob and its base.

    Raises FileNotFoundError where a pack is gone (then `blob` is out of date: look it up again), and CatalogDamaged for
    a base that cannot be one.
    """
    base = None
    if blob.base is not None:
        of = look_up(blob.base.blob_id)
        check_view(blob.id, blob.base.view, of.id, of.nbytes, base_has_base=of.base is not None)
        base = opened(of, open_pack(of.pack), None)
    return opened(blob, open_pack(blob.pack), base)


class OpenBlobs(Mapping[BlobId, OpenBlob]):
    """Blobs whose packs, and those of their bases, are open. Each is made when it is first asked for, and raises
    CatalogDamaged then.
    """

    def __init__(self, blobs: BlobRows, packs: Mapping[PackName, PackFile]) -> None:
        self._blobs = blobs
        self._packs = packs
        self._made: dict[BlobId, OpenBlob] = {}

    def __getitem__(self, blob_id: BlobId) -> OpenBlob:
        found = self._made.get(blob_id)
        if found is None:
            found = self._made[blob_id] = open_blob(self._pack, self._look_up(blob_id), self._look_up)
        return found

    def __contains__(self, blob_id: object) -> bool:
        return blob_id in self._blobs

    def __iter__(self) -> Iterator[BlobId]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def steps(self, extents: Sequence[Extent]) -> list[int]:
        """Return the raw bytes of the frames, but for the last, of the blob of each extent; none is opened for it."""
        return self._blobs.steps(extents)

    def _look_up(self, blob_id: BlobId) -> Blob:
        if blob_id not in self._blobs:
            raise CatalogDamaged(f"blob {blob_id} is missing")
        return self._blobs[blob_id]

    def _pack(self, name: PackName) -> PackFile:
        return self._packs[name]
