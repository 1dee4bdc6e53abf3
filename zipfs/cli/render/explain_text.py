"""What `zipfs explain` prints for people.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zipfs.cli.render.table import Column, lay_out_table
from zipfs.cli.render.units import counted, percent, ratio, size
from zipfs.host import printable
from zipfs.inspect.directory_report import Summary, total
from zipfs.inspect.families import Share
from zipfs.inspect.file_report import Account, FileAccount, base_items, bits_per_weight
from zipfs.inspect.foreign import TAKEN_APART, foreign_format
from zipfs.inspect.inventory import Way
from zipfs.inspect.provenance import Piece, Place

_TENSOR_COLUMNS = (
    Column("tensor", number=False, least=34),
    Column("type", number=False, dispensable=2),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=1),
    Column("bits"),
    Column("planned", dispensable=4),
    Column("alone", dispensable=3),
    Column("next", dispensable=5),
    Column("stored how", number=False, least=14),
    Column("next best", number=False, least=14, dispensable=6),
)


class _Legend:
    """The files that a table refers to, numbered as they come."""

    def __init__(self, account: FileAccount) -> None:
        self._account = account
        self._numbers: dict[bytes, int] = {}

    def place(self, place: Place | None, one: Account) -> str:
        """A place as briefly as can be: without what it has in common with the tensor that is told of."""
        if place is None:
            return "a file that was removed"
        named = self._account.places[place]
        path = ""
        if named.path != self._account.path:
            path = f"[{self._numbers.setdefault(named.path, len(self._numbers) + 1)}]"
        tensor = "" if named.tensor is None or (named.tensor == one.name and path) else printable(named.tensor)
        return " ".join(filter(None, (path, tensor))) or "this file"

    def lines(self) -> Iterator[str]:
        for path, number in self._numbers.items():
            yield f"[{number}] {printable(path)}"


def table(account: FileAccount, width: int | None) -> Iterator[str]:
    """A file, tensor by tensor, and its totals; a terminal of `width` cells takes it, None for any."""
    yield f"{printable(account.path)}: {_verdict(account.ways())}"
    if account.kept_as_bytes:
        yield account.kept_as_bytes
    legend = _Legend(account)
    rows = [row for one in account.accounts for row in _rows(one, account.format, legend)]
    if rows:
        yield ""
        yield from lay_out_table(_TENSOR_COLUMNS, rows, width)
        yield ""
        yield from legend.lines()
        yield from _by_way(account.ways())


def _rows(one: Account, form: str | None, legend: _Legend) -> Iterator[list[str]]:
    name = printable(one.name) if one.name is not None else "(header)"
    if one.name is None and form != "safetensors":
        name = f"(bytes {one.offset} to {one.offset + one.nbytes})"
    kind = " ".join(filter(None, (one.dtype, "x".join(map(str, one.shape)))))
    if len(one.pieces) == 1:
        yield [name, kind, *_sizes(one.nbytes, one.added_nbytes, one.dtype), *_why_and_how(one.pieces[0], one, legend)]
        return
    sizes = _sizes(one.nbytes, one.added_nbytes, one.dtype)
    yield [name, kind, *sizes, "", "", "", f"in {len(one.pieces)} parts", ""]
    for piece in one.pieces:
        start = piece.extent.offset - one.offset
        label = f"  bytes {start} to {start + piece.extent.nbytes}"
        sizes = _sizes(piece.extent.nbytes, piece.added_nbytes, one.dtype)
        yield [label, "", *sizes, *_why_and_how(piece, one, legend)]


def _sizes(nbytes: int, added_nbytes: int, dtype: str) -> list[str]:
    bits = _bits(bits_per_weight(added_nbytes, nbytes, dtype))
    return [size(nbytes), size(added_nbytes), ratio(added_nbytes, nbytes), bits]


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _why_and_how(piece: Piece, one: Account, legend: _Legend) -> list[str]:
    """What was predicted, stored how, and the next best base."""
    prediction = piece.prediction
    how = _how(piece, one, legend)
    if prediction is None:
        return ["", "", "", how, ""]
    following = legend.place(prediction.other, one) if prediction.other is not None else ""
    bits = (prediction.against, prediction.alone, prediction.best_other)
    return [*map(_bits, bits), how, following]


def _how(piece: Piece, one: Account, legend: _Legend) -> str:
    serves = f", base of {piece.members}" if piece.members else ""
    if piece.way is Way.SHARED:
        return f"same as {legend.place(piece.shared_with, one)}{serves}"
    if piece.base is None:
        return f"{piece.way.label}{serves}"
    cast = piece.base.view.cast
    view = f"{cast.source} as {cast.target} " if cast is not None else ""
    items = base_items(piece.base)
    if items is not None:
        view += f"items {items[0]} to {items[1]} of "
    return f"against {view}{legend.place(piece.base.place, one)}"


_SUMMARY_COLUMNS = (
    Column("file", number=False, least=24),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=4),
    Column("bits"),
)


def summary(path: bytes, summaries: Sequence[Summary], width: int | None) -> Iterator[str]:
    """The files of a directory, by their paths below it, and its totals."""
    sums = total(summaries)
    columns = [
        *_SUMMARY_COLUMNS,
        *(Column(way.label, dispensable=2) for way in sums),
        Column("rests on", number=False, least=16, dispensable=3),
    ]
    if summaries:
        yield from lay_out_table(columns, [_summary_cells(one, path, list(sums)) for one in summaries], width)
        yield ""
        yield from _by_way(sums)
    yield f"{counted(len(summaries), 'file')}: {_verdict(sums)}"
    kept = [one for one in summaries if not one.in_spool and foreign_format(one.path, one.nbytes)]
    if kept:
        are = "is" if len(kept) == 1 else "are"
        yield f"{counted(len(kept), 'file')} of other formats {are} kept as bytes: only {TAKEN_APART} is taken apart"


def _summary_cells(one: Summary, path: bytes, ways: Sequence[Way]) -> list[str]:
    nbytes = sum(share.nbytes for share in one.ways.values())
    stored = sum(share.stored_nbytes for share in one.ways.values())
    shares = (percent(one.ways[way].nbytes, nbytes) if way in one.ways else "" for way in ways)
    rests_on = printable(one.rests_on[0][0]) if one.rests_on else ""
    more = f" and {len(one.rests_on) - 1} more" if len(one.rests_on) > 1 else ""
    sizes = (size(nbytes), size(stored), ratio(stored, nbytes), _bits(one.bits_per_weight))
    return [printable(one.path[len(path) :].lstrip(b"/")), *sizes, *shares, rests_on + more]


def _verdict(ways: Mapping[Way, Share]) -> str:
    nbytes = sum(share.nbytes for share in ways.values())
    stored = sum(share.stored_nbytes for share in ways.values())
    spool = ", not compressed yet" if list(ways) == [Way.SPOOL] else ""
    return f"{size(nbytes)} in {size(stored)} ({ratio(stored, nbytes)}){spool}"


def _by_way(ways: Mapping[Way, Share]) -> Iterator[str]:
    for way, share in ways.items():
        yield f"{way.label:<6}  {size(share.nbytes):>10} in {size(share.stored_nbytes):>10}"
