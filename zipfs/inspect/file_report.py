"""One file as `zipfs explain` tells of it: its tensors by name, each with the extents that it is stored as.

Plain values, made from the catalog, what the file holds besides tensors, and the same of files that it is stored
against.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from zipfs.codec import item_nbytes
from zipfs.dtypes import BLOCK_DTYPES
from zipfs.formats import OPAQUE, Span
from zipfs.inspect.bits_per_weight import bits_per_weight, weight_count
from zipfs.inspect.foreign import model_ending
from zipfs.inspect.provenance import Base, Place, StoredExtent, stored_extents
from zipfs.inspect.storage_method import Share, Shares, StorageMethod, total_by_method
from zipfs.inspect.tensor_names import Found, TensorNames
from zipfs.store.objects.values import BlobId, Inode, State
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """The path of a file, and the tensor at a place of it if that is known."""

    path: bytes
    tensor: str | None


@dataclass(frozen=True, slots=True)
class TensorReport:
    """A tensor, or bytes of a file that are none (then `name` is None and `dtype` is ""), and its extents.

    Bytes in several `ranges` are stored as one; `offset` is that of the first one, and `nbytes` counts all of them.
    """

    name: str | None
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    extents: tuple[StoredExtent, ...]
    ranges: int = 1

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

    `format` is that by which it is stored; None if it is stored otherwise than it would be now, or cannot be read.
    `kept_as_bytes` says why a file that looks like a model is not taken apart; it is "" for any other. `places` names
    every place that an extent refers to.
    """

    path: bytes
    nbytes: int
    state: State
    format: str | None
    tensors: tuple[TensorReport, ...]
    places: Mapping[Place, NamedPlace]
    kept_as_bytes: str = ""

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
    found = names.find(inode, path)
    layout = found.layout if found is not None and found.is_followed else None
    spans = layout.spans if layout is not None else tuple(_plain_span(stored) for stored in extents)
    tensors = tuple(
        TensorReport(span.name, span.dtype, span.shape, span.offset, span.nbytes, tuple(group))
        for span, group in _grouped(spans, extents)
    )
    form = layout.format if layout is not None else None
    why = _kept_as_bytes(found, path, inode.nbytes, has_tensors=any(one.dtype for one in tensors))
    return FileReport(path, inode.nbytes, inode.state, form, tuple(_together(tensors)), _named(extents, names), why)


def _kept_as_bytes(found: Found | None, path: bytes, nbytes: int, *, has_tensors: bool) -> str:
    if found is not None and not found.is_followed:
        return (
            f"not stored by its tensors: it came in before files of this kind ({found.layout.format}) were taken apart"
            " as they are now; copy it in again"
        )
    if has_tensors or not model_ending(path, nbytes):
        return ""
    if found is None:
        return "kept as bytes: its header cannot be read"
    layout = found.layout
    if layout.format != OPAQUE:
        return f"kept as bytes: as {layout.format} it holds no tensors"
    if layout.refusals:
        return "kept as bytes: " + "; ".join(f"no {one.format} file: {one.reason}" for one in layout.refusals)
    return "kept as bytes: it begins like no format that is taken apart"


def _together(tensors: Sequence[TensorReport]) -> Iterator[TensorReport]:
    """Yield tensors, and plain bytes that are ranges of one blob as one, in the place of the first of them."""
    ranges: dict[BlobId, list[TensorReport]] = defaultdict(list)
    for one in tensors:
        if _is_plain(one):
            ranges[one.extents[0].blob.id].append(one)
    for one in tensors:
        others = ranges.get(one.extents[0].blob.id, []) if _is_plain(one) else []
        if len(others) < 2:
            yield one
        elif one is others[0]:
            extents = tuple(stored for other in others for stored in other.extents)
            yield replace(one, nbytes=sum(other.nbytes for other in others), extents=extents, ranges=len(others))


def _is_plain(one: TensorReport) -> bool:
    return one.name is None and not one.dtype and len(one.extents) == 1


def _grouped(spans: Sequence[Span], extents: Sequence[StoredExtent]) -> Iterator[tuple[Span, list[StoredExtent]]]:
    """Yield spans with their extents. Plain bytes in which runs of floats were found are told extent by extent."""
    starts = [span.offset for span in spans]
    grouped: list[list[StoredExtent]] = [[] for _ in spans]
    for stored in extents:
        grouped[bisect_right(starts, stored.extent.offset) - 1].append(stored)
    for span, group in zip(spans, grouped, strict=True):
        if not span.dtype and any(stored.blob.dtype for stored in group):
            yield from ((_plain_span(stored), [stored]) for stored in group)
        else:
            yield span, group


def _plain_span(stored: StoredExtent) -> Span:
    """Describe an extent that no parser knows of by what the catalog says of its blob."""
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
    """Return the range of a base's items that is used, as (start, stop); None if that is all of it.

    Of a block type these are the weights of the blocks that it lies in.
    """
    start, stop = base.view.offset, base.view.offset + base.view.nbytes
    if (start, stop) == (0, base.blob.nbytes):
        return None
    block = BLOCK_DTYPES.get(base.blob.dtype)
    if block is not None:
        return start // block.block_nbytes * block.block_weights, -(-stop // block.block_nbytes) * block.block_weights
    width = item_nbytes(base.blob.dtype)
    return start // width, stop // width
