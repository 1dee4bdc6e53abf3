"""What a report shows: the census of a store, its families, and for the largest of them bits per weight by layer.

Names of tensors are read from the headers of the models that are shown in detail, and of no others.  Used by the thread
whose store it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.cli.report.grid import Cell, Grid
from zipfs.cli.report.layer_names import dissect
from zipfs.errors import NotFound
from zipfs.formats import Layout
from zipfs.formats.safetensors import BITS_OF_DTYPE
from zipfs.inspect.families import Family, Kinship, find_families
from zipfs.inspect.inventory import Census, File, take_census
from zipfs.inspect.tensor_names import Naming
from zipfs.store.catalog.sizes import StoreSizes
from zipfs.store.catalog.statistics import Integers
from zipfs.store.disk.progress import Report
from zipfs.store.maintenance.collect import freeable_nbytes
from zipfs.store.store import Store

DETAILED_FAMILIES: Final = 10
"""Families that are shown by layer: those that saved most."""
HEADERS_AT_MOST: Final = 4000
"""Files whose headers are read; more would take minutes. Of a family those of the first models are."""

Layer = tuple[str, int]
OUTSIDE: Final[Layer] = ("", -1)
"""In place of a layer: what is in none."""


@dataclass(slots=True)
class Detail:
    """Bits per weight of one family.

    `by_model` has a row for each model (an index into the members) and a column for each layer.  `by_kind` has a row
    for each layer and a column for each kind of tensor, for each type by itself; it counts all members but the root, or
    the root of a family that has no others.
    """

    family: Family
    by_model: Grid[int, Layer] = field(default_factory=Grid)
    by_kind: dict[str, Grid[Layer, str]] = field(default_factory=lambda: defaultdict(Grid))
    unnamed_files: int = 0
    unread_files: int = 0

    def main_type(self) -> str | None:
        """The type that most bytes are of: bits per weight of several are not to be compared."""
        sizes = {dtype: sum(cell.nbytes for cell in grid.rows.values()) for dtype, grid in self.by_kind.items()}
        return min(sizes, key=lambda dtype: (-sizes[dtype], dtype), default=None)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report shows."""

    kinship: Kinship
    census: Census
    details: Sequence[Detail]
    figures: StoreSizes


def gather(store: Store, report: Report) -> Findings:
    """Raises CatalogDamaged."""
    census = take_census(store, report)
    kinship = find_families(census)
    files = _files_by_model(census)
    details: list[Detail] = []
    anatomies = _Anatomies(store)
    chosen = kinship.families[:DETAILED_FAMILIES]
    total = min(HEADERS_AT_MOST, sum(len(files[member.path]) for family in chosen for member in family.members))
    done = 0
    uses = census.uses_of_files()
    for family in chosen:
        detail = Detail(family)
        for number, member in enumerate(family.members):
            for at in files[member.path]:
                if done >= HEADERS_AT_MOST:
                    detail.unread_files += 1
                    continue
                done += 1
                report("reading headers", done, total)
                _add(detail, number, anatomies.of(census.files[at]), census, uses[at])
        details.append(detail)
    return Findings(kinship, census, details, store.catalog.store_sizes(freeable_nbytes(store)))


def _files_by_model(census: Census) -> dict[bytes, list[int]]:
    """The files that have tensors, by the model that they belong to."""
    counts = np.bincount(census.uses.file[census.is_tensor()], minlength=len(census.files)).tolist()
    found: dict[bytes, list[int]] = defaultdict(list)
    for at, file in enumerate(census.files):
        if file.model is not None and counts[at]:
            found[census.models[file.model]].append(at)
    return found


@dataclass(frozen=True, slots=True)
class _Anatomy:
    """Of a file: where its spans start, and for each that is a tensor its layer, kind, type, bytes and items."""

    layout: Layout
    starts: Integers
    tensors: tuple[tuple[int, Layer, str, str, int, float], ...]


class _Anatomies:
    """Anatomies of files, made once for all files with one header."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._naming = Naming(store)
        self._last: _Anatomy | None = None

    def of(self, file: File) -> _Anatomy | None:
        """None if the header cannot be read."""
        try:
            layout = self._naming.layout(self._store.catalog.inode(file.inode_id), file.path)
        except NotFound:
            return None  # removed since the census was taken
        if layout is None:
            return None
        if self._last is None or self._last.layout is not layout:
            self._last = _anatomy(layout)
        return self._last


def _anatomy(layout: Layout) -> _Anatomy:
    named = [(at, span) for at, span in enumerate(layout.spans) if span.name is not None]
    parts = dissect([span.name or "" for _, span in named])
    tensors = tuple(
        (
            at,
            OUTSIDE if part.stack is None else (part.stack, part.layer),
            part.kind,
            span.dtype,
            span.nbytes,
            span.nbytes * 8 / BITS_OF_DTYPE[span.dtype],
        )
        for (at, span), part in zip(named, parts, strict=True)
    )
    return _Anatomy(layout, np.array([span.offset for span in layout.spans], np.int64), tensors)


def _add(detail: Detail, number: int, anatomy: _Anatomy | None, census: Census, extents: NDArray[np.intp]) -> None:
    if anatomy is None:
        detail.unnamed_files += 1
        return
    spans = np.searchsorted(anatomy.starts, census.uses.offset[extents], side="right") - 1
    added = np.bincount(spans, census.uses.added_nbytes[extents], anatomy.starts.size).tolist()
    counts_for_kinds = number > 0 or len(detail.family.members) == 1
    for at, layer, kind, dtype, nbytes, items in anatomy.tensors:
        cell = Cell(added[at] * 8, items, nbytes)
        detail.by_model.add(number, layer, cell)
        if counts_for_kinds:
            detail.by_kind[dtype].add(layer, kind, cell)
