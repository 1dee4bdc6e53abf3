"""What a report shows: all that is known of a store, and for its largest families bits per weight by layer.

Names of tensors are read from the headers of the models that are shown in detail, and of no others. Used by the thread
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
from zipfs.cli.report.layer_names import name_layers
from zipfs.errors import NotFound
from zipfs.formats import Layout
from zipfs.inspect.bits_per_weight import weight_count
from zipfs.inspect.families import Family
from zipfs.inspect.inventory import File, Inventory
from zipfs.inspect.store_report import StoreReport, report_store
from zipfs.inspect.tensor_names import TensorNames
from zipfs.store.catalog.statistics import Integers
from zipfs.store.disk.progress import Report
from zipfs.store.store import Store

DETAILED_FAMILIES: Final = 10
"""Families that are shown by layer: those that saved most."""
HEADERS_AT_MOST: Final = 4000
"""Files whose headers are read; more would take minutes. Of a family those of the first models are."""

Layer = tuple[str, int]
OUTSIDE: Final[Layer] = ("", -1)
"""In place of a layer: what is in none."""


@dataclass(slots=True)
class FamilyDetail:
    """Bits per weight of one family.

    `by_model` has a row for each model (an index into the members) and a column for each layer. `by_kind` has a row
    for each layer and a column for each kind of tensor, for each type by itself. It counts all members but the root, or
    the root of a family that has no others.
    """

    family: Family
    by_model: Grid[int, Layer] = field(default_factory=Grid)
    by_kind: dict[str, Grid[Layer, str]] = field(default_factory=lambda: defaultdict(Grid))
    unnamed_files: int = 0
    unread_files: int = 0

    def main_type(self) -> str | None:
        """Return the type that most bytes are of: bits per weight of several are not to be compared."""
        sizes = {dtype: sum(cell.nbytes for cell in grid.rows.values()) for dtype, grid in self.by_kind.items()}
        return min(sizes, key=lambda dtype: (-sizes[dtype], dtype), default=None)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report shows."""

    store: StoreReport
    details: Sequence[FamilyDetail]


def gather(store: Store, progress: Report) -> Findings:
    """Read the catalog, and the headers of the families that are shown in detail. Raises CatalogDamaged."""
    report = report_store(store, progress)
    inventory = report.inventory
    files = _files_by_model(inventory)
    details: list[FamilyDetail] = []
    layers = _LayerReader(store)
    chosen = report.families.families[:DETAILED_FAMILIES]
    total = min(HEADERS_AT_MOST, sum(len(files[member.path]) for family in chosen for member in family.members))
    done = 0
    extents = inventory.extents_of_files()
    for family in chosen:
        detail = FamilyDetail(family)
        for number, member in enumerate(family.members):
            for at in files[member.path]:
                if done >= HEADERS_AT_MOST:
                    detail.unread_files += 1
                    continue
                done += 1
                progress("reading headers", done, total)
                _add(detail, number, layers.of(inventory.files[at]), inventory, extents[at])
        details.append(detail)
    return Findings(report, details)


def _files_by_model(inventory: Inventory) -> dict[bytes, list[int]]:
    """Group the files that have tensors by the model that they belong to."""
    counts = np.bincount(inventory.extents.file[inventory.is_tensor()], minlength=len(inventory.files)).tolist()
    found: dict[bytes, list[int]] = defaultdict(list)
    for at, file in enumerate(inventory.files):
        if file.model is not None and counts[at]:
            found[inventory.models[file.model]].append(at)
    return found


@dataclass(frozen=True, slots=True)
class _FileLayers:
    """Where the spans of a file start, and for each that is a tensor its layer, kind, type, bytes and weights."""

    layout: Layout
    starts: Integers
    tensors: tuple[tuple[int, Layer, str, str, int, float], ...]


class _LayerReader:
    """Reads the layers of files, once for all files in a row that have one header."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names = TensorNames(store)
        self._last: _FileLayers | None = None

    def of(self, file: File) -> _FileLayers | None:
        """Return the layers of a file; None if its header cannot be read."""
        try:
            layout = self._names.layout(self._store.catalog.inode(file.inode_id), file.path)
        except NotFound:
            return None  # removed since the inventory was taken
        if layout is None:
            return None
        if self._last is None or self._last.layout is not layout:
            self._last = _file_layers(layout)
        return self._last


def _file_layers(layout: Layout) -> _FileLayers:
    named = [(at, span) for at, span in enumerate(layout.spans) if span.name is not None]
    parts = name_layers([span.name or "" for _, span in named])
    tensors = tuple(
        (
            at,
            OUTSIDE if part.stack is None else (part.stack, part.layer),
            part.kind,
            span.dtype,
            span.nbytes,
            weight_count(span.nbytes, span.dtype),
        )
        for (at, span), part in zip(named, parts, strict=True)
    )
    return _FileLayers(layout, np.array([span.offset for span in layout.spans], np.int64), tensors)


def _add(
    detail: FamilyDetail, number: int, layers: _FileLayers | None, inventory: Inventory, extents: NDArray[np.intp]
) -> None:
    if layers is None:
        detail.unnamed_files += 1
        return
    spans = np.searchsorted(layers.starts, inventory.extents.offset[extents], side="right") - 1
    added = np.bincount(spans, inventory.extents.added_nbytes[extents], layers.starts.size).tolist()
    counts_for_kinds = number > 0 or len(detail.family.members) == 1
    for at, layer, kind, dtype, nbytes, weights in layers.tensors:
        cell = Cell(added[at] * 8, weights, nbytes)
        detail.by_model.add(number, layer, cell)
        if counts_for_kinds:
            detail.by_kind[dtype].add(layer, kind, cell)
