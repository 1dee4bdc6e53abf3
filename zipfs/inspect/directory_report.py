"""The files of a directory: how much of each is stored by which method, and which files it rests on.

Pure: a function of the inventory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zipfs.inspect.bits_per_weight import bits_of_dtypes, bits_per_weight
from zipfs.inspect.inventory import Inventory
from zipfs.inspect.storage_method import Share, Shares, StorageMethod, shares_of


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file. `bits_per_weight` is over its tensors, None without any.

    `rests_on` lists (path, bytes) of the other files whose tensors its own are coded against or shared with, the most
    first.
    """

    path: bytes
    in_spool: bool
    shares: Shares
    bits_per_weight: float | None
    rests_on: tuple[tuple[bytes, int], ...]


def summarize_directory(inventory: Inventory, directory: bytes) -> list[FileSummary]:
    """Return every file at or below `directory` (b"" for all), in order of path."""
    extents, blobs = inventory.extents, inventory.blobs
    prefix = directory + b"/" if directory else b""
    first = inventory.first_use()
    bases = blobs.bases[extents.blob]
    of_base = np.where(bases >= 0, first[bases], -1)
    on = np.where(extents.methods == StorageMethod.SHARED, extents.owner, of_base)
    width = bits_of_dtypes(blobs.dtype_names or ("",))[blobs.dtypes[extents.blob]]
    summaries = []
    for number, (file, rows) in enumerate(zip(inventory.files, inventory.extents_of_files(), strict=False)):
        if not (file.path.startswith(prefix) or file.at.startswith(prefix)):
            continue
        if file.in_spool:
            waiting = {StorageMethod.SPOOL: Share(file.nbytes, file.nbytes)} if file.nbytes else {}
            summaries.append(FileSummary(file.path, True, waiting, None, ()))
            continue
        nbytes, added = extents.nbytes[rows], extents.added_nbytes[rows]
        is_tensor = width[rows] > 0
        weights = float((nbytes[is_tensor] * 8 / width[rows][is_tensor]).sum())
        others = on[rows]
        others = np.where(others >= 0, extents.file[others], -1) if others.size else others
        rests = {
            int(other): int(nbytes[others == other].sum()) for other in np.unique(others) if other not in (-1, number)
        }
        ranked = sorted(
            ((inventory.files[other].path, count) for other, count in rests.items()), key=lambda tie: (-tie[1], tie)
        )
        summaries.append(
            FileSummary(
                path=file.path,
                in_spool=False,
                shares=shares_of(extents.methods[rows], nbytes, added),
                bits_per_weight=bits_per_weight(float(added[is_tensor].sum()), weights),
                rests_on=tuple(ranked),
            )
        )
    return summaries
