"""What `zipfs explain` tells of a file: its tensors by name, each with the pieces that it is stored as.

Plain values, made from the catalog, the header of the file and those of the files that it is stored against.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zipfs.codec import item_nbytes
from zipfs.formats.layout import Span
from zipfs.formats.safetensors import BITS_OF_DTYPE
from zipfs.inspect.families import Share
from zipfs.inspect.foreign import TAKEN_APART, foreign_format
from zipfs.inspect.inventory import Way
from zipfs.inspect.provenance import Base, Piece, Place, pieces_of
from zipfs.inspect.tensor_names import Naming
from zipfs.store.objects.values import Inode, State
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class Named:
    """A place: the path of a file, and the tensor there if it is known."""

    path: bytes
    tensor: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """A tensor, or a range of a file that is none (then `name` is None and `dtype` is ""), and its pieces."""

    name: str | None
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    pieces: tuple[Piece, ...]

    @property
    def added_nbytes(self) -> int:
        return sum(piece.added_nbytes for piece in self.pieces)

    @property
    def bits_per_weight(self) -> float | None:
        return bits_per_weight(self.added_nbytes, self.nbytes, self.dtype)


def bits_per_weight(stored_nbytes: int, nbytes: int, dtype: str) -> float | None:
    """Stored bits for each item of a tensor; None for what is no tensor."""
    bits = BITS_OF_DTYPE.get(dtype)
    return stored_nbytes * bits / nbytes if bits and nbytes else None


@dataclass(frozen=True, slots=True)
class FileAccount:
    """A file. Of one that is still in the spool there are no accounts; of an empty one neither."""

    path: bytes
    nbytes: int
    state: State
    format: str | None
    accounts: tuple[Account, ...]
    places: Mapping[Place, Named]

    @property
    def kept_as_bytes(self) -> str:
        """Why a file that looks like a model was not taken apart; "" of any other."""
        if self.state is not State.STORED or self.format == TAKEN_APART:
            return ""
        ending = foreign_format(self.path, self.nbytes)
        if ending:
            return f"kept as bytes: of the formats of models only {TAKEN_APART} is taken apart, not {ending}"
        if self.path.endswith(b".safetensors") and self.nbytes:
            return f"kept as bytes: its header is not that of a {TAKEN_APART} file"
        return ""

    @property
    def added_nbytes(self) -> int:
        if self.state is not State.STORED:
            return self.nbytes
        return sum(account.added_nbytes for account in self.accounts)

    @property
    def bits_per_weight(self) -> float | None:
        """Over all tensors; None if there is none."""
        tensors = [account for account in self.accounts if account.dtype]
        items = sum(account.nbytes * 8 / BITS_OF_DTYPE[account.dtype] for account in tensors)
        return sum(account.added_nbytes for account in tensors) * 8 / items if items else None

    def ways(self) -> dict[Way, Share]:
        """Raw and added bytes of each way, in order."""
        if self.state is not State.STORED:
            return {Way.SPOOL: Share(self.nbytes, self.nbytes)} if self.nbytes else {}
        pieces = [piece for account in self.accounts for piece in account.pieces]
        return {
            way: Share(
                sum(piece.extent.nbytes for piece in pieces if piece.way is way),
                sum(piece.added_nbytes for piece in pieces if piece.way is way),
            )
            for way in sorted({piece.way for piece in pieces})
        }


def account_of_file(store: Store, naming: Naming, path: bytes, inode: Inode) -> FileAccount:
    """Raises CatalogDamaged."""
    if inode.state is not State.STORED:
        return FileAccount(path, inode.nbytes, inode.state, None, (), {})
    pieces = pieces_of(store, inode)
    layout = naming.layout(inode, path)
    spans = layout.spans if layout is not None else tuple(_plain_span(piece) for piece in pieces)
    starts = [span.offset for span in spans]
    grouped: list[list[Piece]] = [[] for _ in spans]
    for piece in pieces:
        grouped[bisect_right(starts, piece.extent.offset) - 1].append(piece)
    accounts = tuple(
        Account(span.name, span.dtype, span.shape, span.offset, span.nbytes, tuple(group))
        for span, group in zip(spans, grouped, strict=True)
    )
    return FileAccount(
        path, inode.nbytes, inode.state, layout.format if layout else None, accounts, _named(pieces, naming)
    )


def _plain_span(piece: Piece) -> Span:
    """An extent of a file whose header cannot be read; what the catalog says of its blob is all that is known."""
    extent, blob = piece.extent, piece.blob
    whole = extent.blob_offset == 0 and extent.nbytes == blob.nbytes
    return Span(extent.offset, extent.nbytes, blob.dtype, blob.shape if whole else (), None)


def _named(pieces: Sequence[Piece], naming: Naming) -> dict[Place, Named]:
    wanted: set[Place] = set()
    for piece in pieces:
        of_piece = [piece.shared_with]
        of_piece += [piece.base.place] if piece.base is not None else []
        of_piece += [piece.prediction.other] if piece.prediction is not None else []
        wanted.update(place for place in of_piece if place is not None)
    order = sorted(wanted, key=lambda place: (place.inode_id, place.offset))
    return {place: Named(*naming.of(place.inode_id, place.offset)) for place in order}


def base_items(base: Base) -> tuple[int, int] | None:
    """The items of a base that are used, first and last but one; None if that is all of it."""
    width = item_nbytes(base.blob.dtype)
    if (base.view.offset, base.view.nbytes) == (0, base.blob.nbytes):
        return None
    return base.view.offset // width, (base.view.offset + base.view.nbytes) // width
