"""What `zipfs explain` prints for people.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zipfs.cli.accounts import Account, FileAccount, base_items, bits_per_weight
from zipfs.cli.output import ratio, shown, size
from zipfs.cli.summaries import Summary, total
from zipfs.cli.table import Column, lay_out_table
from zipfs.lineage.census import Way
from zipfs.lineage.families import Share
from zipfs.lineage.provenance import Piece, Place

_TENSOR_COLUMNS = (
    Column("tensor", number=False, shrinks=True),
    Column("type", number=False, dispensable=2),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=1),
    Column("bits"),
    Column("planned", dispensable=4),
    Column("alone", dispensable=3),
    Column("next", dispensable=5),
    Column("stored how", number=False, shrinks=True),
    Column("next best", number=False, shrinks=True, dispensable=6),
)


def table(account: FileAccount, width: int | None) -> Iterator[str]:
    yield f"{shown(account.path)}: {_verdict(account.ways())}"
    rows = [row for one in account.accounts for row in _rows(one, account)]
    if rows:
        yield ""
        yield from lay_out_table(_TENSOR_COLUMNS, rows, width)
        yield ""
        yield from _by_way(account.ways())


def _rows(one: Account, account: FileAccount) -> Iterator[list[str]]:
    name = shown(one.name) if one.name is not None else "(header)" if not one.offset else "(bytes)"
    if one.name is None and account.format != "safetensors":
        name = f"(bytes {one.offset} to {one.offset + one.nbytes})"
    kind = " ".join(filter(None, (one.dtype, "x".join(map(str, one.shape)))))
    sizes = [size(one.nbytes), size(one.added_nbytes), ratio(one.added_nbytes, one.nbytes), _bits(one.bits_per_weight)]
    if len(one.pieces) == 1:
        yield [name, kind, *sizes, *_why(one.pieces[0]), *_how(one.pieces[0], one, account)]
        return
    yield [name, kind, *sizes, "", "", "", f"in {len(one.pieces)} parts", ""]
    for piece in one.pieces:
        start = piece.extent.offset - one.offset
        label = f"  bytes {start} to {start + piece.extent.nbytes}"
        bits = bits_per_weight(piece.added_nbytes, piece.extent.nbytes, one.dtype)
        added = piece.added_nbytes
        sizes = [size(piece.extent.nbytes), size(added), ratio(added, piece.extent.nbytes), _bits(bits)]
        yield [label, "", *sizes, *_why(piece), *_how(piece, one, account)]


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _why(piece: Piece) -> list[str]:
    prediction = piece.prediction
    if prediction is None:
        return ["", "", ""]
    return [_bits(prediction.against), _bits(prediction.alone), _bits(prediction.best_other)]


def _how(piece: Piece, one: Account, account: FileAccount) -> list[str]:
    """Stored how, and the next best base."""
    prediction = piece.prediction
    following = _at(prediction.other, one, account) if prediction is not None and prediction.other is not None else ""
    serves = f", base of {piece.members}" if piece.members else ""
    if piece.way is Way.SHARED:
        return [f"same as {_at(piece.shared_with, one, account)}{serves}", following]
    if piece.base is None:
        return [f"{piece.way.label}{serves}", following]
    cast = piece.base.view.cast
    view = f"{cast.source} as {cast.target} " if cast is not None else ""
    items = base_items(piece.base)
    if items is not None:
        view += f"[{items[0]}:{items[1]}] "
    return [f"against {view}{_at(piece.base.place, one, account)}", following]


def _at(place: Place | None, one: Account, account: FileAccount) -> str:
    """A place as briefly as can be: without what it has in common with the tensor that is told of."""
    if place is None:
        return "a file that was removed"
    named = account.places[place]
    path = "" if named.path == account.path else shown(named.path)
    tensor = "" if named.tensor is None or (named.tensor == one.name and path) else shown(named.tensor)
    return " ".join(filter(None, (path, tensor))) or "this file"


_SUMMARY_COLUMNS = (
    Column("file", number=False, shrinks=True),
    Column("size"),
    Column("added"),
    Column("of size"),
    Column("bits"),
)


def summary(summaries: Sequence[Summary], width: int | None) -> Iterator[str]:
    sums = total(summaries)
    columns = [*_SUMMARY_COLUMNS, *(Column(way.label) for way in sums), Column("rests on", number=False, shrinks=True)]
    if summaries:
        yield from lay_out_table(columns, [_summary_cells(one, list(sums)) for one in summaries], width)
        yield ""
        yield from _by_way(sums)
    yield f"{len(summaries)} files: {_verdict(sums)}"


def _summary_cells(one: Summary, ways: Sequence[Way]) -> list[str]:
    nbytes = sum(share.nbytes for share in one.ways.values())
    stored = sum(share.stored_nbytes for share in one.ways.values())
    shares = (ratio(one.ways[way].nbytes, nbytes) if way in one.ways else "" for way in ways)
    rests_on = shown(one.rests_on[0][0]) if one.rests_on else ""
    more = f" and {len(one.rests_on) - 1} more" if len(one.rests_on) > 1 else ""
    sizes = (size(nbytes), size(stored), ratio(stored, nbytes), _bits(one.bits_per_weight))
    return [shown(one.path), *sizes, *shares, rests_on + more]


def _verdict(ways: Mapping[Way, Share]) -> str:
    nbytes = sum(share.nbytes for share in ways.values())
    stored = sum(share.stored_nbytes for share in ways.values())
    spool = ", not compressed yet" if list(ways) == [Way.SPOOL] else ""
    return f"{size(nbytes)} in {size(stored)} ({ratio(stored, nbytes)}){spool}"


def _by_way(ways: Mapping[Way, Share]) -> Iterator[str]:
    for way, share in ways.items():
        yield f"{way.label:<6}  {size(share.nbytes):>10} in {size(share.stored_nbytes):>10}"
