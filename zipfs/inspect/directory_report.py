"""What is told of each file of a directory: how much of it is stored how, and which files it rests on.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zipfs.formats.safetensors import BITS_OF_DTYPE
from zipfs.inspect.families import Share
from zipfs.inspect.inventory import Census, Way


@dataclass(frozen=True, slots=True)
class Summary:
    """A file. `bits_per_weight` is over its tensors, None without any; `rests_on` lists (path, bytes) of other files
    that hold what its tensors are coded against or shared with, the most first.
    """

    path: bytes
    in_spool: bool
    ways: Mapping[Way, Share]
    bits_per_weight: float | None
    rests_on: tuple[tuple[bytes, int], ...]

    @property
    def nbytes(self) -> int:
        return sum(share.nbytes for share in self.ways.values())


def summarize(census: Census, directory: bytes) -> list[Summary]:
    """Every file at or below `directory`, b"" for all, in order of path."""
    uses, blobs = census.uses, census.blobs
    prefix = directory + b"/" if directory else b""
    first = census.first_use()
    bases = blobs.bases[uses.blob]
    of_base = np.where(bases >= 0, first[bases], -1)
    on = np.where(uses.ways == Way.SHARED, uses.owner, of_base)
    bits = np.array([BITS_OF_DTYPE.get(name, 0) for name in blobs.dtype_names] or [0], np.int64)
    width = bits[blobs.dtypes[uses.blob]]
    summaries = []
    for number, (file, rows) in enumerate(zip(census.files, census.uses_of_files(), strict=False)):
        if not (file.path.startswith(prefix) or file.at.startswith(prefix)):
            continue
        if file.in_spool:
            ways = {Way.SPOOL: Share(file.nbytes, file.nbytes)} if file.nbytes else {}
            summaries.append(Summary(file.path, True, ways, None, ()))
            continue
        nbytes, added = uses.nbytes[rows], uses.added_nbytes[rows]
        found = {
            way: Share(int(nbytes[chosen].sum()), int(added[chosen].sum()))
            for way in Way
            if (chosen := uses.ways[rows] == way).any()
        }
        is_tensor = width[rows] > 0
        items = float((nbytes[is_tensor] * 8 / width[rows][is_tensor]).sum())
        weight = float(added[is_tensor].sum()) * 8 / items if items else None
        others = on[rows]
        others = np.where(others >= 0, uses.file[others], -1) if others.size else others
        rests = {
            int(other): int(nbytes[others == other].sum()) for other in np.unique(others) if other not in (-1, number)
        }
        ranked = sorted(((census.files[other].path, count) for other, count in rests.items()), key=lambda x: (-x[1], x))
        summaries.append(Summary(file.path, False, found, weight, tuple(ranked)))
    return summaries


def total(summaries: Sequence[Summary]) -> dict[Way, Share]:
    """Raw and added bytes of each way that is in use."""
    return {
        way: Share(sum(share.nbytes for share in found), sum(share.stored_nbytes for share in found))
        for way in Way
        if (found := [one.ways[way] for one in summaries if way in one.ways])
    }
