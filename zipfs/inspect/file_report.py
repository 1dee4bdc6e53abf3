"""One file as `zipfs explain` tells of it: its tensors by name, each with the extents that it is stored as.

Plain values, made from the catalog, the header of the file and those of the files that it is stored against.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zipfs.codec import item_nbytes
from zipfs.formats.layout import Span
from zipfs.inspect.bits_per_weight import bits_per_weight, weight_count
from zipfs.inspect.foreign import TAKEN_APART, foreign_format
from zipfs.inspect.provenance import Base, Place, StoredExtent, stored_extents
from zipfs.inspect.storage_method import Share, Shares, StorageMethod, total_by_method
from zipfs.inspect.tensor_names import TensorNames
from zipfs.store.objects.values import Inode, State
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """The path of a file, and the tensor at a place of it if that is known."""

    path: bytes
    tensor: str | None


@dataclass(frozen=True, slots=True)
class TensorReport:
    """A tensor, or a range of a file that is none (then `name` is None and `dtype` is ""), and its extents."""

    name: str | None
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    extents: tuple[StoredExtent, ...]

    @property
    def added_nbytes(self) -> int:
        return sum(stored.added_nbytes for stored in self.extents)

    @property
    def weights(self) -> float:
        return weight_count(self.nbytes, self.dtype)

    @property
    def bits_per_weight(self) -> float | None:
        return bits_per_weight(self.added_nbytes, self.weights)


@dataclass(frozen=True, slots=True)
class FileReport:
    """A file. One that is still in the spool has no tensors, and neither has an empty one.

    `places` names every place that an extent refers to.
    """

    path: bytes
    nbytes: int
    state: State
    format: str | None
    tensors: tuple[TensorReport, ...]
    places: Mapping[Place, NamedPlace]

    @property
    def kept_as_bytes(self) -> str:
        """Say why a file that looks like a model was not taken apart; "" for any other."""
        if self.state is not State.STORED or self.format == TAKEN_APART:
            return ""
        ending = foreign_format(self.path, self.nbytes)
        if ending:
            return f"kept as bytes: of the formats of models only {TAKEN_APART} is taken apart, not {ending}"
        if self.path.endswith(b".safetensors") and self.nbytes:
            return f"kept as bytes: its header is not that of a {TAKEN_APART} file"
        return ""

    @property
    def bits_per_weight(self) -> float | None:
        """Return stored bits for each weight of all tensors; None if there is none."""
        tensors = [one for one in self.tensors if one.dtype]
        return bits_per_weight(sum(one.added_nbytes for one in tensors), sum(one.weights for one in tensors))

    def shares(self) -> Shares:
        """Sum the file up by storage method."""
        if self.state is not State.STORED:
            return {StorageMethod.SPOOL: Share(self.nbytes, self.nbytes)} if self.nbytes else {}
        return total_by_method(
            {stored.method: Share(stored.extent.nbytes, stored.added_nbytes)}
            for one in self.tensors
            for stored in one.extents
        )


def report_file(store: Store, names: TensorNames, path: bytes, inode: Inode) -> FileReport:
    """Report on the file `inode`, which is called `path`. Raises CatalogDamaged."""
    if inode.state is not State.STORED:
        return FileReport(path, store.content_nbytes(inode), inode.state, None, (), {})
    extents = stored_extents(store, inode)
    layout = names.layout(inode, path)
    spans = layout.spans if layout is not None else tuple(_plain_span(stored) for stored in extents)
    starts = [span.offset for span in spans]
    grouped: list[list[StoredExtent]] = [[] for _ in spans]
    for stored in extents:
        grouped[bisect_right(starts, stored.extent.offset) - 1].append(stored)
    tensors = tuple(
        TensorReport(span.name, span.dtype, span.shape, span.offset, span.nbytes, tuple(group))
        for span, group in zip(spans, grouped, strict=True)
    )
    form = layout.format if layout is not None else None
    return FileReport(path, inode.nbytes, inode.state, form, tensors, _named(extents, names))


def _plain_span(stored: StoredExtent) -> Span:
    """Describe an extent of a file whose header cannot be read by what the catalog says of its blob."""
    extent, blob = stored.extent, stored.blob
    whole = extent.blob_offset == 0 and extent.nbytes == blob.nbytes
    return Span(extent.offset, extent.nbytes, blob.dtype, blob.shape if whole else (), None)


def _named(extents: Sequence[StoredExtent], names: TensorNames) -> dict[Place, NamedPlace]:
    wanted: set[Place] = set()
    for stored in extents:
        places = [stored.shared_with]
        places += [stored.base.place] if stored.base is not None else []
        places += [stored.prediction.other] if stored.prediction is not None else []
        wanted.update(place for place in places if place is not None)
    order = sorted(wanted, key=lambda place: (place.inode_id, place.offset))
    return {place: NamedPlace(*names.at(place.inode_id, place.offset)) for place in order}


def base_items(base: Base) -> tuple[int, int] | None:
    """Return the range of a base's items that is used, as (start, stop); None if that is all of it."""
    width = item_nbytes(base.blob.dtype)
    if (base.view.offset, base.view.nbytes) == (0, base.blob.nbytes):
        return None
    return base.view.offset // width, (base.view.offset + base.view.nbytes) // width
